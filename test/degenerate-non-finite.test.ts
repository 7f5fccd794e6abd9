// Spec section 7: rows that are not finite are refused or skipped, and masked ones are never read.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  conspo,
  conspoSync,
  type DType,
  forwardSync,
  grpo,
  grpoSync,
  type HostTensor,
  ratioScoresSync,
  sequenceLogProbsSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectCloseNumber, expectFinite } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { randomBatch } from './support/random.js';
import { DTYPES, hostTensor } from './support/tensors.js';

// Ways to spoil a row whose target is the third from its end: at its start, in its vector part, in its tail.
const SPOILED: [name: string, spoil: (row: Float64Array) => void][] = [
  ['NaN first', (row) => row.fill(NaN, 0, 1)],
  ['NaN at the target', (row) => row.fill(NaN, -3, -2)],
  ['NaN in the middle', (row) => row.fill(NaN, row.length >> 1, (row.length >> 1) + 1)],
  ['NaN last', (row) => row.fill(NaN, -1)],
  ['NaN everywhere', (row) => row.fill(NaN)],
  ['+Infinity first', (row) => row.fill(Infinity, 0, 1)],
  ['+Infinity last', (row) => row.fill(Infinity, -1)],
  ['+Infinity at the target', (row) => row.fill(Infinity, -3, -2)],
  ['all -Infinity', (row) => row.fill(-Infinity)],
  ['-Infinity at the target', (row) => row.fill(-Infinity, -3, -2)],
  ['-Infinity and one NaN', (row) => row.fill(-Infinity).fill(NaN, -1)],
  ['NaN among -Infinity, before finite logits', (row) => row.fill(-Infinity, 0, row.length >> 1).fill(NaN, 2, 3)],
  ['NaN and +Infinity', (row) => row.fill(NaN, 0, 1).fill(Infinity, -1)],
];

/** Six tokens in three sequences of one group; rows 2 and 4 are spoiled. */
function spoiledBatch(spoil: (row: Float64Array) => void, vocab: number, dtype: DType) {
  const random = new Random(vocab);
  const values = Float64Array.from({ length: 6 * vocab }, () => 2 * random.normal());
  for (const t of [2, 4]) spoil(values.subarray(t * vocab, (t + 1) * vocab));
  return {
    logits: hostTensor(values, [6, vocab], dtype),
    targets: new Int32Array(6).fill(vocab - 3),
    cuSeqlens: Int32Array.of(0, 3, 5, 6),
    cuGroups: Int32Array.of(0, 3),
    rewards: Float32Array.of(1, 0, 0),
    oldLogProbs: Float64Array.of(-3, -3, -3, -3, -3, -3),
    refLogProbs: Float64Array.of(-3, -3.5, -3, -3, -3, -3),
  };
}

const HAND_MASK = Uint8Array.of(1, 1, 0, 1, 0, 1);

describeBackends('non-finite rows', (backend) => {
  describe.each(SPOILED)('%s', (_name, spoil) => {
    // In one vector's tail, in one block, over three blocks of 1024.
    test.each([
      ['f32', 7],
      ['f32', 50],
      ['f32', 2101],
      ['bf16', 50],
      ['bf16', 2101],
      ['f16', 50],
      ['f16', 2101],
    ] as const)('%s, V = %i', async (dtype, vocab) => {
      const batch = spoiledBatch(spoil, vocab, dtype);
      const refusal = rlvrError('ERR_NONFINITE', /^logits: .*2 non-finite.*row 2$/);
      const before = batch.logits.data.slice();
      const out = hostTensor(new Float64Array(6 * vocab).fill(3), [6, vocab], dtype);
      const untouched = out.data.slice();
      for (const entropy of [false, true]) {
        expect(() => tokenLogProbsSync(batch, { entropy, backend })).toThrow(refusal);
      }
      await expect(conspo(batch, { gradient: 'in-place', backend })).rejects.toEqual(refusal);
      await expect(conspo(batch, { gradient: { out }, backend })).rejects.toEqual(refusal);
      expect(() => forwardSync(batch, 'logLikelihood', { backend })).toThrow(refusal);
      expect([batch.logits.data, out.data]).toEqual([before, untouched]);
      // Written row by row as the logits are read: what `out` then holds is unspecified.
      await expect(grpo(batch, { gradient: { out }, klCoef: 0.1, backend })).rejects.toEqual(refusal);
      await expect(conspo(batch, { gradient: { deferred: true, out }, backend })).rejects.toEqual(refusal);
      expect(batch.logits.data).toEqual(before);

      const skip = { onNonFinite: 'skip', backend, entropy: true } as const;
      const skipped = tokenLogProbsSync(batch, skip);
      const byHand = tokenLogProbsSync({ ...batch, mask: HAND_MASK }, { entropy: true, backend });
      expect(skipped).toEqual({ ...byHand, mask: HAND_MASK, nonFiniteTokens: 2 });
      expectFinite(skipped);
    });
  });

  test.each(DTYPES)('%s: skipping in a loss is masking by hand', (dtype) => {
    const batch = spoiledBatch((row) => row.fill(NaN, -2), 300, dtype);
    const masked = { ...batch, mask: HAND_MASK };
    const options = { onNonFinite: 'skip', backend, entropy: true, logProbs: true } as const;
    const pairs = [
      [conspoSync(batch, options), conspoSync(masked, options)],
      [grpoSync(batch, { ...options, klCoef: 0.1 }), grpoSync(masked, { ...options, klCoef: 0.1 })],
      [
        grpoSync(batch, { ...options, advantage: { estimator: 'opo' }, aggregation: 'token-mean' }),
        grpoSync(masked, { ...options, advantage: { estimator: 'opo' }, aggregation: 'token-mean' }),
      ],
      [
        grpoSync(batch, { ...options, form: 'discriminative' }),
        grpoSync(masked, { ...options, form: 'discriminative' }),
      ],
    ];
    for (const [skipped, byHand] of pairs) {
      expect(skipped.metrics.nonFiniteTokens).toBe(2);
      expect(byHand.metrics.nonFiniteTokens).toBe(0);
      expect({ ...skipped, metrics: { ...skipped.metrics, nonFiniteTokens: 0 } }).toEqual(byHand);
      const { data } = skipped.gradLogits as HostTensor;
      for (const t of [2, 4]) expect(Array.from(data.subarray(t * 300, (t + 1) * 300))).toEqual(new Array(300).fill(0));
      expect(skipped.loss).not.toBe(0);
      expectFinite(skipped);
    }
    const inPlace = conspoSync(batch, { ...options, gradient: 'in-place' });
    expect(inPlace.gradLogits.data).toBe(batch.logits.data);
    expect(Array.from(batch.logits.data)).toEqual(Array.from((pairs[0][0].gradLogits as HostTensor).data));
    const { scores, nonFiniteTokens, backward } = forwardSync(
      spoiledBatch((row) => row.fill(NaN), 300, dtype),
      'logLikelihood',
      {
        onNonFinite: 'skip',
        backend,
      },
    );
    expect([nonFiniteTokens, scores]).toEqual([2, pairs[0][1].scores]);
    const { gradLogits } = backward(Float64Array.of(1, 1, 1));
    expectFinite(gradLogits.data);
  });

  test('a batch of nothing but non-finite rows is skipped whole', () => {
    const batch = spoiledBatch(() => {}, 9, 'f32');
    batch.logits.data.fill(NaN);
    for (const result of [
      conspoSync(batch, { onNonFinite: 'skip', backend }),
      grpoSync(batch, { onNonFinite: 'skip', klCoef: 1, backend }),
    ]) {
      expect([result.loss, result.metrics.nonFiniteTokens, result.metrics.tokens]).toEqual([0, 6, 0]);
      expect(Array.from(result.gradLogits.data)).toEqual(new Array(54).fill(0));
    }
  });

  test.each([NaN, Infinity, -Infinity])('log-probs of %d', (value) => {
    const { logits: _, targets: __, ...rest } = spoiledBatch(() => {}, 3, 'f32');
    const logProbs = Float64Array.of(-1, -2, value, -1.5, value, -0.5);
    const refusal = rlvrError('ERR_NONFINITE', /^logProbs: .*2 non-finite.*token 2$/);
    const before = logProbs.slice();
    for (const gradient of ['new', 'in-place'] as const) {
      expect(() => conspoSync({ ...rest, logProbs }, { gradient, backend })).toThrow(refusal);
      expect(() => grpoSync({ ...rest, logProbs }, { gradient, backend })).toThrow(refusal);
    }
    expect(logProbs).toEqual(before);
    const clean = { ...rest, logProbs: logProbs.map((x) => (Number.isFinite(x) ? x : -7)), mask: HAND_MASK };
    const skip = { onNonFinite: 'skip', backend } as const;
    const skipped = [conspoSync({ ...rest, logProbs }, skip), grpoSync({ ...rest, logProbs }, skip)];
    const byHand = [conspoSync(clean, { backend }), grpoSync(clean, { backend })];
    skipped.forEach((result, i) => {
      expect(result.metrics.nonFiniteTokens).toBe(2);
      expect({ ...result, metrics: { ...result.metrics, nonFiniteTokens: 0 } }).toEqual(byHand[i]);
      expect([result.gradLogProbs![2], result.gradLogProbs![4]]).toEqual([0, 0]);
    });
    const ofOp = rlvrError('ERR_NONFINITE', new RegExp(`^logProbs: .*${value} at index 2$`));
    expect(() => sequenceLogProbsSync({ logProbs, cuSeqlens: Int32Array.of(0, 6) }, { backend })).toThrow(ofOp);
    expect(() => ratioScoresSync({ logProbs, cuSeqlens: Int32Array.of(0, 6) }, { backend })).toThrow(ofOp);
  });

  test('returned log-probs hold 0, not NaN, where a token does not count', () => {
    const { logits: _, targets: __, ...rest } = spoiledBatch(() => {}, 3, 'f32');
    const logProbs = Float64Array.of(NaN, -2, NaN, -1.5, -1, -0.5);
    const batch = { ...rest, logProbs, mask: Uint8Array.of(0, 1, 1, 1, 1, 1) };
    const options = { onNonFinite: 'skip', backend } as const;
    const expected = Float64Array.of(0, -2, 0, -1.5, -1, -0.5);
    expect(conspoSync(batch, { ...options, logProbs: true }).logProbs).toEqual(expected);
    expect(forwardSync(batch, 'logLikelihood', options).logProbs).toEqual(expected);
  });

  test('masked rows are never read', () => {
    const batch = randomBatch(17, { vocab: 37, groups: 5 });
    const spoiled = { ...batch, logits: batch.logits.slice(), targets: batch.targets.slice() };
    spoiled.oldLogProbs = batch.oldLogProbs.slice();
    spoiled.refLogProbs = batch.refLogProbs.slice();
    const outside = [-1, 37, 2 ** 31 - 1, -(2 ** 31)];
    batch.mask.forEach((flag, t) => {
      if (flag !== 0) return;
      spoiled.logits.fill([NaN, Infinity, -Infinity][t % 3], t * 37, (t + 1) * 37);
      spoiled.targets[t] = outside[t % 4];
      spoiled.oldLogProbs[t] = NaN;
      spoiled.refLogProbs[t] = NaN;
    });
    expect(batch.mask.filter((flag) => flag === 0).length).toBeGreaterThan(3);
    const options = { backend, entropy: true, logProbs: true };
    expect(conspoSync(spoiled, options)).toEqual(conspoSync(batch, options));
    expect(grpoSync(spoiled, { ...options, klCoef: 0.1 })).toEqual(grpoSync(batch, { ...options, klCoef: 0.1 }));
    const forward = tokenLogProbsSync(spoiled, options);
    expect(forward).toEqual(tokenLogProbsSync(batch, options));
    const upstream = { logSumExp: forward.logSumExp, gradLogProbs: forward.logProbs.map(() => 1) };
    expect(tokenLogProbsBackwardSync({ ...spoiled, ...upstream }, { backend })).toEqual(
      tokenLogProbsBackwardSync({ ...batch, ...upstream }, { backend }),
    );
  });

  test.each(DTYPES)('banned tokens of %s logits: legal, with gradient exactly 0', (dtype) => {
    const batch = spoiledBatch((row) => row.fill(-Infinity).fill(1, 296, 299), 300, dtype);
    for (const result of [conspoSync(batch, { backend }), grpoSync(batch, { klCoef: 0.1, backend })]) {
      expect(result.metrics.nonFiniteTokens).toBe(0);
      for (const t of [2, 4]) {
        const row = result.gradLogits.data.subarray(t * 300, (t + 1) * 300);
        expect(Array.from(row, (g, v) => (v >= 296 && v < 299 ? 0 : g))).toEqual(new Array(300).fill(0)); // +0, bits 0
        expect(row[297]).not.toBe(0);
      }
    }
    const { logProbs } = tokenLogProbsSync(batch, { backend });
    expectCloseNumber(logProbs[2], -Math.log(3), 1e-6);
  });
});
