// Losses from hidden states: the same bits as log-probs of the op, the loss on them, and the op's backward pass.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose } from './support/compare.js';
import { linearBatch, logitsOf, valuesOf } from './support/linear-rows.js';
import { byName, fullBatch, NAMED_LOSSES } from './support/named-losses.js';

const VOCAB = 1100; // more than the columns that kernels take at a time
const WIDTH = 6;

/** A batch for any loss, from hidden states. */
function hiddenBatch(seed: number, padding = 0) {
  const { logits: _logits, targets, ...rollouts } = fullBatch(seed);
  const { hidden, weight, bias } = linearBatch(
    seed,
    { tokens: targets.length, vocab: VOCAB, width: WIDTH },
    { padding },
  );
  return { hidden, weight, bias: bias!, targets, ...rollouts };
}

const GRADIENTS = ['gradHidden', 'gradWeight', 'gradBias'] as const;
type Gradients = Record<(typeof GRADIENTS)[number], rlvr.HostTensor>;

const valuesIn = (gradients: Gradients) => GRADIENTS.map((name) => valuesOf(gradients[name]));

describeBackends('losses from hidden states', (backend) => {
  /** The op, the loss on its log-probs, and the op's backward pass. */
  function composed(batch: ReturnType<typeof hiddenBatch>, loss: (batch: never) => rlvr.LossResult<rlvr.Batch>) {
    const { hidden, weight, bias, ...rollouts } = batch;
    const { targets, mask } = batch;
    const layer = { hidden, weight, bias, targets, mask };
    const options = { temperature: 0.8, backend };
    const { logProbs, logSumExp } = rlvr.linearLogProbsSync(layer, options);
    const result = loss({ ...rollouts, targets: undefined, logProbs } as never);
    const inputs = { ...layer, logSumExp, gradLogProbs: (result as { gradLogProbs: Float64Array }).gradLogProbs };
    return { result, gradients: rlvr.linearLogProbsBackwardSync(inputs, options) };
  }

  test.each(byName(NAMED_LOSSES))('%s', async (_name, { options, run, runSync }) => {
    const batch = hiddenBatch(1);
    const expected = composed(batch, (own) => runSync(own, { ...options, backend }) as rlvr.LossResult<rlvr.Batch>);
    const own = { ...options, temperature: 0.8, backend };
    const actual = runSync(batch, own);
    const { gradHidden: _h, gradWeight: _w, gradBias: _b, ...value } = actual;
    const { gradLogProbs: _g, ...expectedValue } = expected.result as unknown as { gradLogProbs: unknown };
    expect(value).toEqual(expectedValue);
    expect(valuesIn(actual)).toEqual(valuesIn(expected.gradients as Gradients));
    expect(valuesOf(actual.gradHidden).some((x) => x !== 0)).toBe(true);
    expect(await run(batch, own)).toEqual(actual);
    expect(await run(batch, { ...own, copyInputs: true })).toEqual(actual);
  });

  test('an entropy bonus: as from logits', () => {
    const { hidden, weight, bias, ...rollouts } = hiddenBatch(2);
    const options = { entropyCoef: 0.3, entropy: true, backend };
    const actual = rlvr.grpoSync({ hidden, weight, bias, ...rollouts }, options);
    const logits = Float32Array.from(logitsOf({ hidden, weight, bias }));
    const expected = rlvr.grpoSync({ logits, ...rollouts }, options);
    expect(actual.loss).toBeCloseTo(expected.loss, 5);
    expectClose(actual.entropy!, expected.entropy!, 1e-5, 'entropy');
    const gradHidden = new Float64Array(valuesOf(hidden).length);
    const rows = valuesOf(weight);
    for (let i = 0; i < gradHidden.length; i++) {
      const [t, k] = [Math.floor(i / WIDTH), i % WIDTH];
      for (let v = 0; v < VOCAB; v++) gradHidden[i] += expected.gradLogits[t * VOCAB + v] * rows[v * WIDTH + k];
    }
    expectClose(valuesOf(actual.gradHidden), gradHidden, 1e-5, 'gradHidden');
  });

  test('masks and a teacher: as from logits', () => {
    const { hidden, weight, bias, ...rollouts } = hiddenBatch(2);
    const taught = { ...rollouts, teacherLogProbs: rollouts.refLogProbs };
    const masks = { entropyQuantile: 0.4, offPolicyMask: { delta: 0.05 }, clipCov: { ratio: 0.2, low: 0 } };
    const options = { ...masks, klCov: { ratio: 0.2 }, distillation: { coef: 0.5 }, backend };
    const actual = rlvr.grpoSync({ hidden, weight, bias, ...taught }, { ...options, perToken: true });
    const logits = Float32Array.from(logitsOf({ hidden, weight, bias }));
    const expected = rlvr.grpoSync({ logits, ...taught }, { ...options, perToken: true });
    expect(actual.loss).toBeCloseTo(expected.loss, 5);
    expectClose(actual.tokenLosses!, expected.tokenLosses!, 1e-5, 'tokenLosses');
    expect(valuesOf(actual.gradHidden).some((x) => x !== 0)).toBe(true);
  });

  test('places: out, accumulate, none, and none of all', () => {
    const batch = hiddenBatch(3, 2);
    const all = rlvr.conspoSync(batch, { backend });
    const tokens = batch.targets.length;
    const sum = new Float32Array(tokens * WIDTH).fill(1);
    const out = { data: new Uint16Array(VOCAB * WIDTH), shape: [VOCAB, WIDTH] as const, dtype: 'bf16' as const };
    const some = rlvr.conspoSync(batch, {
      gradHidden: { accumulate: sum },
      gradWeight: { out },
      gradBias: 'none',
      backend,
    });
    expect(some.gradHidden).toBe(sum);
    expect(some.gradWeight).toBe(out);
    expect('gradBias' in some).toBe(false);
    expectClose(
      sum,
      valuesOf(all.gradHidden).map((x) => 1 + x),
      2 ** -23,
      'gradHidden',
    );
    expectClose(valuesOf(out), valuesOf(all.gradWeight), 2 ** -8, 'gradWeight');
    const onlyHidden = rlvr.conspoSync(batch, { gradient: 'none', gradHidden: 'new', backend });
    expect(onlyHidden.gradHidden).toEqual(all.gradHidden);
    expect('gradWeight' in onlyHidden).toBe(false);
    const value = rlvr.conspoSync(batch, { gradient: 'none', backend });
    expect(value.loss).toBe(all.loss);
    for (const each of GRADIENTS) expect(each in value).toBe(false);
  });

  test('any chunkBytes gives the same bits; on CUDA all but those of sums over rows', () => {
    const batch = hiddenBatch(4);
    if (backend === 'cuda') return expectChunks(batch);
    const expected = rlvr.conspoSync(batch, { chunkBytes: 0, backend });
    const kept = batch.mask.filter((keeps) => keeps !== 0).length;
    const tile = 4 * kept * 1024;
    for (const chunkBytes of [3, 4, tile - 4, tile, tile + 4, 2 * tile, 2 ** 26]) {
      expect(rlvr.conspoSync(batch, { chunkBytes, backend }), `${chunkBytes}`).toEqual(expected);
    }
  });

  /** One row at a time, all but one, all. */
  function expectChunks(batch: ReturnType<typeof hiddenBatch>) {
    const all = rlvr.conspoSync(batch, { backend });
    const rows = batch.targets.length;
    const ofRow = 4 * 64 * Math.ceil(VOCAB / 64);
    for (const chunkBytes of [0, 1, ofRow, 7 * ofRow, (rows - 1) * ofRow, rows * ofRow, 2 ** 30]) {
      const { gradWeight, gradBias, ...others } = rlvr.conspoSync(batch, { chunkBytes, backend });
      expect(others).toEqual({ ...all, gradWeight: undefined, gradBias: undefined });
      expectClose(valuesOf(gradWeight), valuesOf(all.gradWeight), 1e-6, 'gradWeight');
      expectClose(valuesOf(gradBias), valuesOf(all.gradBias), 1e-6, 'gradBias');
      expect(rlvr.conspoSync(batch, { chunkBytes, backend }).gradWeight).toEqual(gradWeight);
    }
  }

  test('forward and backward, more than once', async () => {
    const { hidden, weight, bias, targets, mask, cuSeqlens } = hiddenBatch(5);
    const batch = { hidden, weight, bias, targets, mask, cuSeqlens };
    const gradScores = Float64Array.from({ length: cuSeqlens.length - 1 }, (_, i) => Math.sin(i + 1));
    const { logSumExp, logProbs } = rlvr.linearLogProbsSync(batch as never, { backend });
    const pass = rlvr.forwardSync({ logProbs, mask, cuSeqlens }, 'logLikelihood', { backend });
    const { gradLogProbs } = pass.backward(gradScores);
    const inputs = { hidden, weight, bias, targets, mask, logSumExp, gradLogProbs };
    const expected = valuesIn(rlvr.linearLogProbsBackwardSync(inputs, { backend }) as Gradients);
    const sync = rlvr.forwardSync(batch, 'logLikelihood', { backend });
    const async = await rlvr.forward(batch, 'logLikelihood', { backend });
    expect(sync.scores).toEqual(pass.scores);
    for (let i = 0; i < 2; i++) {
      expect(valuesIn(sync.backward(gradScores))).toEqual(expected);
      expect(valuesIn(await async.backward(gradScores))).toEqual(expected);
    }
    const frozen = await async.backward(gradScores, { gradWeight: 'none', gradBias: 'none' });
    expect(Object.keys(frozen)).toEqual(['gradHidden']);
    expect(valuesOf(frozen.gradHidden)).toEqual(expected[0]);
  });

  test('rows unmasked between the two passes are computed then', () => {
    const { hidden, weight, bias, targets, cuSeqlens } = hiddenBatch(6);
    const mask = new Uint8Array(targets.length).fill(1);
    mask[0] = 0;
    const pass = rlvr.forwardSync({ hidden, weight, bias, targets, mask, cuSeqlens }, 'logLikelihood', { backend });
    mask[0] = 1;
    const gradScores = new Float64Array(cuSeqlens.length - 1).fill(1e-3);
    expect(valuesOf(pass.backward(gradScores).gradHidden).every(Number.isFinite)).toBe(true);
  });

  test('non-finite rows: an error that leaves the gradients alone, or dropped', () => {
    const batch = hiddenBatch(7);
    const { mask, hidden } = batch;
    mask.fill(1);
    const row = 4;
    (hidden.data as Float32Array)[row * WIDTH] = NaN;
    const out = new Float32Array(valuesOf(hidden).length).fill(7);
    expect(() => rlvr.conspoSync(batch, { gradHidden: { out }, backend })).toThrow(
      "hidden: expected log-probs that are finite (or onNonFinite: 'skip'), got 1 non-finite row(s), the first at row 4",
    );
    expect(out.every((x) => x === 7)).toBe(true);
    const skipped = rlvr.conspoSync(batch, { onNonFinite: 'skip', gradHidden: { out }, backend });
    const masked = rlvr.conspoSync({ ...batch, mask: mask.map((keeps, t) => (t === row ? 0 : keeps)) }, { backend });
    expect(skipped.metrics.nonFiniteTokens).toBe(1);
    expect(Float64Array.from(out)).toEqual(valuesOf(masked.gradHidden));
    expect(valuesOf(skipped.gradWeight)).toEqual(valuesOf(masked.gradWeight));
    expect(out.subarray(row * WIDTH, (row + 1) * WIDTH).every((x) => x === 0)).toBe(true);
  });
});

describe('arguments', () => {
  const batch = hiddenBatch(8);
  const { hidden, weight, bias: _bias, ...rest } = batch;
  const logProbs = new Float32Array(batch.targets.length).fill(-1);
  const refused = (fields: object, options: object, message: string) =>
    expect(() => rlvr.conspoSync(fields as never, { backend: 'reference', ...options } as never)).toThrow(message);

  test('exactly one source of log-probs', () => {
    const message = 'batch: expected one of logits (with targets), hidden (with weight and targets) and logProbs';
    refused(rest, {}, `${message}, got none of them`);
    refused({ ...batch, logProbs }, {}, `${message}, got hidden and logProbs`);
    refused({ ...batch, logits: logProbs }, {}, `${message}, got logits and hidden`);
  });

  test('a hidden state needs its layer', () => {
    refused({ ...rest, hidden }, {}, 'weight: expected');
    refused({ hidden, weight, cuSeqlens: batch.cuSeqlens }, {}, 'targets: expected');
  });

  test('places that do not fit', () => {
    const notThere = "'new' or 'none' for hidden states (gradHidden, gradWeight and gradBias say where)";
    refused(batch, { gradient: 'in-place' }, `gradient: expected ${notThere}, got "in-place"`);
    refused(batch, { gradient: { out: logProbs } }, `gradient: expected ${notThere}`);
    refused(
      batch,
      { gradient: { deferred: true } },
      'gradient.deferred: expected a batch of logits, got hidden states',
    );
    refused(
      { ...rest, targets: undefined, logProbs },
      { gradWeight: 'none' },
      'gradWeight: expected a batch of hidden',
    );
    refused(batch, { gradWeight: { accumulate: weight } }, 'gradWeight: expected memory apart from weight');
    refused(batch, { gradHidden: 'in-place' }, 'gradHidden: expected');
    refused(batch, { chunkBytes: -1 }, 'chunkBytes: expected a whole number at least 0');
  });
});
