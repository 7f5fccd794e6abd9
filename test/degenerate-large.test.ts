// Spec section 7: T * V >= 2^31 elements. bf16, so that one array of them is 4.3 GB; most rows are masked, so that the
// forward pass touches little of it. Row 16384 starts at element 2^31 (byte 2^32): an offset of 32 bits, signed or not, in
// elements or in bytes, reads another row.
import { expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { conspoSync, type HostTensor, tokenLogProbs, tokenLogProbsSync } from '../lib/index.js';
import { numberToBf16 } from '../lib/reference/float16.js';
import { describeBackends } from './support/backends.js';
import { expectCloseNumber } from './support/compare.js';

const VOCAB = 2 ** 17;
const TOKENS = 2 ** 14 + 9;
const KEPT = [0, 1, 2 ** 13, 2 ** 14 - 1, 2 ** 14, 2 ** 14 + 1, TOKENS - 2, TOKENS - 1]; // 2^13: element 2^30, byte 2^31
const DIRTY = [2, 2 ** 14 - 2, 2 ** 14 + 2, TOKENS - 3]; // masked, and not zero

function* keptRows() {
  const random = new Random(9);
  for (const t of KEPT) yield { t, row: Uint16Array.from({ length: VOCAB }, () => numberToBf16(3 * random.normal())) };
}

/** The same eight rows, alone. */
function smallBatch() {
  const data = new Uint16Array(KEPT.length * VOCAB);
  [...keptRows()].forEach(({ row }, i) => {
    data.set(row, i * VOCAB);
  });
  return {
    logits: { data, shape: [KEPT.length, VOCAB], dtype: 'bf16' } as HostTensor,
    targets: Int32Array.from(KEPT, (_, i) => i * 16000),
    cuSeqlens: Int32Array.of(0, 4, 8),
    cuGroups: Int32Array.of(0, 2),
    rewards: Float32Array.of(1, 0),
  };
}

const data = new Uint16Array(TOKENS * VOCAB); // one for all backends: a gradient in place leaves zeros in masked rows

function fill(): void {
  for (const t of DIRTY) data.fill(0x7fc0, t * VOCAB, (t + 1) * VOCAB); // NaN
  for (const { t, row } of keptRows()) data.set(row, t * VOCAB);
}

describeBackends('2^31 logits and more', (backend) => {
  test('last rows, and a gradient in place', async () => {
    expect(data.length).toBeGreaterThan(2 ** 31);
    fill();
    const small = smallBatch();
    const mask = new Uint8Array(TOKENS);
    const targets = new Int32Array(TOKENS);
    KEPT.forEach((t, i) => {
      mask[t] = 1;
      targets[t] = small.targets[i];
    });
    const logits: HostTensor = { data, shape: [TOKENS, VOCAB], dtype: 'bf16' };
    const options = { backend, entropy: true };
    const large = await tokenLogProbs({ logits, targets, mask }, options);
    const alone = tokenLogProbsSync(small, options);
    KEPT.forEach((t, i) => {
      expect(large.logProbs[t], `row ${t}`).toBe(alone.logProbs[i]);
      expect(large.entropy![t], `row ${t}`).toBe(alone.entropy![i]);
    });
    expect(new Set(alone.logProbs).size).toBe(KEPT.length); // no two rows look the same

    const cuSeqlens = Int32Array.of(0, 2 ** 14, TOKENS); // four kept rows in each
    const rollouts = { mask, cuSeqlens, cuGroups: small.cuGroups, rewards: small.rewards };
    const batch = { ...rollouts, logits, targets };
    const inPlace = conspoSync(batch, { gradient: 'in-place', backend });
    const expected = conspoSync(small, { backend });
    const { loss } = conspoSync({ ...rollouts, logProbs: large.logProbs }, { backend });
    expect(inPlace.loss).toBe(loss); // of the same log-probs
    expectCloseNumber(inPlace.loss, expected.loss, 1e-12); // which sums four of them in another order
    expect(inPlace.gradLogits).toBe(logits);
    KEPT.forEach((t, i) => {
      const row = data.subarray(t * VOCAB, (t + 1) * VOCAB);
      const same = Buffer.from(row.buffer, row.byteOffset, row.byteLength).equals(
        Buffer.from(expected.gradLogits.data.buffer, i * VOCAB * 2, VOCAB * 2),
      );
      expect(same, `gradient row ${t}`).toBe(true);
    });
    for (const t of DIRTY) {
      expect(
        data.subarray(t * VOCAB, (t + 1) * VOCAB).every((bits) => bits === 0),
        `masked row ${t}`,
      ).toBe(true);
    }
  });
});
