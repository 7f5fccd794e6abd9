// Ranks that hold different rows of a last layer's weight (spec section 12): the loss is that of whole rows of logits, and each gets the
// gradient of its own weight and the whole one of hidden states.
import { expect, it } from 'vitest';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { fullBatch, NAMED_LOSSES } from './support/named-losses.js';
import { joined, onRanks } from './support/ranks.js';

const VOCAB = 37;
/** Where the columns are cut. */
const CUTS: Record<number, number[]> = { 2: [0, 13, 37], 3: [0, 1, 30, 37] };

interface Result extends Record<'gradHidden' | 'gradWeight' | 'gradBias', Float32Array> {
  loss: number;
}

const conspo = NAMED_LOSSES.find(({ name }) => name === 'conspo')!;
const loss = (batch: object, options: object) =>
  conspo.run(batch as never, { ...conspo.options, ...options } as never) as unknown as Promise<Result>;

describeBackends('ranks that share the weight of a layer', (backend) => {
  const width = 6;
  const batch = fullBatch(39, { vocab: VOCAB });
  const tokens = batch.targets.length;
  const matrix = (rows: number, seed: number) =>
    Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * seed + seed));
  const [hidden, weight] = [matrix(tokens, 1.3), matrix(VOCAB, 0.7)];
  const biases = Float32Array.from({ length: VOCAB }, (_, v) => Math.cos(v));

  async function expectLayerAsOne(
    { targets, bias }: Pick<typeof batch, 'targets'> & { bias: Float32Array },
    options: () => object,
  ) {
    const { logits: _logits, ...rest } = { ...batch, targets, hidden };
    const whole = await loss({ ...rest, weight, bias }, options());
    for (const size of [2, 3]) {
      const parts = await onRanks(size, (comm, rank) => {
        const [start, end] = CUTS[size].slice(rank, rank + 2);
        const part = { weight: weight.slice(start * width, end * width), bias: bias.slice(start, end) };
        return loss({ ...rest, ...part }, { ...options(), parallel: { vocab: { comm, start } } });
      });
      for (const part of parts) {
        expectCloseNumber(part.loss, whole.loss, 1e-5, 1e-2);
        expectClose(part.gradHidden, whole.gradHidden, 1e-5);
        expect(part.gradHidden).toEqual(parts[0].gradHidden);
      }
      expectClose(joined(parts.map(({ gradWeight }) => gradWeight)), whole.gradWeight, 1e-5);
      expectClose(joined(parts.map(({ gradBias }) => gradBias)), whole.gradBias, 1e-5);
    }
  }

  it.each(['new', 'accumulate'] as const)(
    'get its own gradient, and the whole one of hidden states: %s',
    async (place) => {
      const into = () => ({ accumulate: Float32Array.from({ length: tokens * width }, (_, i) => i % 3) });
      await expectLayerAsOne({ ...batch, bias: biases }, () => ({
        backend,
        gradHidden: place === 'new' ? place : into(),
      }));
    },
  );

  it('and have none but padding', async () => {
    const last = CUTS[3][2]; // the last of three ranks has padding alone
    const bias = biases.map((entry, v) => (v < last ? entry : -Infinity));
    const targets = batch.targets.map((id) => id % last);
    await expectLayerAsOne({ targets, bias }, () => ({ backend }));
  });
});
