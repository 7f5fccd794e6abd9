import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { conspo, conspoSync, groupInfoNCESync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { goldenBatch, goldenCases } from './support/golden.js';
import { expectGradient, expectSum } from './support/losses.js';
import { joinLogProbBatches, randomBatch } from './support/random.js';

/** Spec section 8: 1 / tau magnifies every rounding. */
const gradientTolerance = (logProbs: ArrayLike<number>, tau: number) =>
  2e-6 * Math.max(1, Math.max(0, ...Array.from(logProbs, Math.abs)) / tau);

describeBackends('conspo', (backend) => {
  describe('golden cases', () => {
    test.each(goldenCases('conspo'))('%s', async (_name, golden) => {
      const batch = goldenBatch(golden);
      const { tau } = golden.options;
      const result = await conspo(batch, { ...golden.options, logProbs: true, backend });
      const tolerance = gradientTolerance(result.logProbs!, tau);
      expectCloseNumber(result.loss, golden.expected.loss, tolerance);
      expectClose(result.scores, golden.expected.scores, 1e-6);
      expectClose(result.groupLosses, golden.expected.groupLosses, tolerance);
      expectClose(result.gradLogits, golden.expected.gradLogits, tolerance);

      const { logits: _logits, targets: _targets, ...rest } = batch;
      const fromLogProbs = conspoSync({ ...rest, logProbs: result.logProbs! }, { ...golden.options, backend });
      expectCloseNumber(fromLogProbs.loss, golden.expected.loss, tolerance);
      expectClose(fromLogProbs.gradLogProbs, golden.expected.gradLogProbs, tolerance);
    });
  });

  test('finite differences down to the logits', () => {
    const batch = randomBatch(4, { vocab: 5, groups: 3 });
    const options = { tau: 0.7, margin: 0.1, temperature: 1.2 };
    expectGradient(backend, batch, (moved, on) => conspoSync(moved, { ...options, backend: on }));
  });

  test('random batches agree with the reference; async and sync have the same bits', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.constantFrom(1, 3, 40), async (seed, vocab) => {
        const batch = randomBatch(seed, { vocab, groups: 4 });
        const options = { tau: 0.2, margin: 0.05, logProbs: true };
        const expected = conspoSync(batch, { ...options, backend: 'reference' });
        const actual = conspoSync(batch, { ...options, backend });
        const tolerance = gradientTolerance(expected.logProbs!, 0.2);
        expectCloseNumber(actual.loss, expected.loss, tolerance, 1e-3);
        expectClose(actual.gradLogits, expected.gradLogits, tolerance);
        expect(await conspo(batch, { ...options, backend })).toEqual(actual);
      }),
      { numRuns: backend === 'cuda' ? 10 : 40 }, // the emulation takes a second for each
    );
  });

  test('in place, out and none', () => {
    const batch = randomBatch(6, { vocab: 9, groups: 4 });
    const fresh = conspoSync(batch, { backend });
    const none = conspoSync(batch, { backend, gradient: 'none' });
    expect([none.loss, 'gradLogits' in none]).toEqual([fresh.loss, false]);
    const out = new Float32Array(batch.logits.length).fill(NaN);
    expect(conspoSync(batch, { backend, gradient: { out } }).gradLogits).toBe(out);
    expect(out).toEqual(fresh.gradLogits);
    const inPlace = conspoSync(batch, { backend, gradient: 'in-place' });
    expect(inPlace.gradLogits).toBe(batch.logits);
    expect(batch.logits).toEqual(fresh.gradLogits);
  });

  test('permuting the sequences of a group permutes the scores and keeps the loss', () => {
    const lengths = [2, 3, 1];
    const logProbs = [Float64Array.of(-1, -2), Float64Array.of(-0.5, -3, -1), Float64Array.of(-4)];
    const rewards = [1, 0, 0];
    const run = (order: number[]) => {
      const packed = Float64Array.from(order.flatMap((i) => Array.from(logProbs[i])));
      const ends = order.map((_, k) => order.slice(0, k + 1).reduce((sum, i) => sum + lengths[i], 0));
      const batch = {
        logProbs: packed,
        cuSeqlens: Int32Array.from([0, ...ends]),
        cuGroups: Int32Array.of(0, 3),
        rewards: Float32Array.from(order, (i) => rewards[i]),
      };
      return conspoSync(batch, { backend });
    };
    const [plain, permuted] = [run([0, 1, 2]), run([2, 0, 1])];
    expectCloseNumber(permuted.loss, plain.loss, 1e-14);
    expectClose(
      permuted.scores,
      [2, 0, 1].map((i) => plain.scores[i]),
      1e-14,
    );
    expectClose(permuted.gradLogProbs, [...plain.gradLogProbs.slice(5), ...plain.gradLogProbs.slice(0, 5)], 1e-14);
  });

  test('is group InfoNCE of mean log-probs, with the metrics of the batch', () => {
    const batch = {
      logProbs: Float32Array.of(-1, -3, -0.5, -2, -8),
      cuSeqlens: Int32Array.of(0, 2, 3, 4, 5),
      cuGroups: Int32Array.of(0, 3, 4, 4),
      rewards: Float32Array.of(1, -1, 1, 1),
    };
    const options = { tau: 0.5, margin: 0.1, backend };
    const result = conspoSync(batch, options);
    const scores = Float64Array.of(-2, -0.5, -2, -8);
    const expected = groupInfoNCESync({ ...batch, scores }, options);
    expect(result.loss).toBe(expected.loss);
    expect(result.scores).toEqual(scores);
    expectClose(
      result.gradLogProbs,
      [expected.gradScores[0] / 2, expected.gradScores[0] / 2, ...expected.gradScores.slice(1)],
      1e-15,
    );
    expect(result.metrics).toEqual({
      tokens: 5,
      nonFiniteTokens: 0,
      contrastiveGroups: 1,
      degenerateGroups: 2,
      positiveScoreMean: -4,
      negativeScoreMean: -0.5,
      scoreGap: -3.5,
      rewardMean: 0.5,
      zeroVarianceFraction: 0.5,
    });
  });

  test('micro-batches with normalizer G add up to the batch', () => {
    const parts = [1, 2, 3].map((seed) => randomBatch(seed, { vocab: 4, groups: 1 }));
    const total = conspoSync(joinLogProbBatches(parts), { backend });
    const micro = parts.map((part) => conspoSync(joinLogProbBatches([part]), { normalizer: 3, backend }));
    expectSum(micro, total, 1e-12);
  });
});
