import { describe, expect, test } from 'vitest';
import { conspoSync, forward, forwardSync, groupInfoNCESync, type Score } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { goldenBatch, goldenCases } from './support/golden.js';
import { expectGradient } from './support/losses.js';
import { randomBatch } from './support/random.js';

/** DisCO's objective, written as a user would (spec section 4), with its gradient by scores. */
function disco(scores: Float64Array, rewards: Float32Array, cuGroups: Int32Array, tau: number | null) {
  const gradScores = new Float64Array(scores.length);
  const groups = cuGroups.length - 1;
  let loss = 0;
  for (let g = 0; g < groups; g++) {
    const members = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => cuGroups[g] + k);
    const positives = members.filter((i) => rewards[i] > 0);
    const negatives = members.filter((i) => rewards[i] <= 0);
    if (positives.length === 0 || negatives.length === 0) continue;
    for (const i of positives) {
      loss -= scores[i] / positives.length / groups;
      gradScores[i] = -1 / positives.length / groups;
    }
    const weights = negatives.map((j) => (tau === null ? 1 : Math.exp(scores[j] / tau)));
    const total = weights.reduce((a, b) => a + b, 0);
    negatives.forEach((j, k) => {
      if (tau === null) loss += scores[j] / negatives.length / groups;
      gradScores[j] = weights[k] / total / groups;
    });
    if (tau !== null) loss += (tau * Math.log(total / negatives.length)) / groups;
  }
  return { loss, gradScores };
}

describeBackends('custom objectives', (backend) => {
  describe('DisCO written in TypeScript: golden cases', () => {
    test.each(goldenCases('disco'))('%s', async (_name, golden) => {
      const batch = goldenBatch(golden);
      const score: Score = golden.options.score === 'log-likelihood' ? 'logLikelihood' : { kind: 'ratio' };
      const { scores, backward } = await forward(batch, score, { temperature: golden.options.temperature, backend });
      const { loss, gradScores } = disco(scores, batch.rewards, batch.cuGroups, golden.options.tau);
      expectClose(scores, golden.expected.scores, 1e-6);
      expectCloseNumber(loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose((await backward(gradScores)).gradLogits, golden.expected.gradLogits, 2e-6);
    });
  });

  test('ConSPO by hand equals conspo', () => {
    const batch = randomBatch(2, { vocab: 7, groups: 4 });
    const { scores, backward } = forwardSync(batch, { kind: 'logLikelihood' }, { backend });
    const { loss, gradScores } = groupInfoNCESync({ ...batch, scores }, { tau: 0.3, backend });
    const named = conspoSync(batch, { tau: 0.3, backend });
    expect(loss).toBe(named.loss);
    expect(backward(gradScores).gradLogits).toEqual(named.gradLogits);
  });

  test('any differentiable function of the scores: finite differences', () => {
    const batch = randomBatch(5, { vocab: 4, groups: 3 });
    const run = (moved: typeof batch, on: typeof backend) => {
      const { scores, backward } = forwardSync(moved, { kind: 'softGate' }, { backend: on });
      const loss = scores.reduce((sum, s) => sum + s * s, 0);
      return { loss, ...backward(scores.map((s) => 2 * s)) };
    };
    expectGradient(backend, batch, run);
  });

  test('from log-probs, with the gradient where it is asked for', async () => {
    const logProbs = Float32Array.of(-1, -2, -3);
    const batch = { logProbs, cuSeqlens: Int32Array.of(0, 2, 3) };
    const { scores, tokenCounts, backward } = await forward(batch, 'logLikelihood', { backend });
    expect([Array.from(scores), Array.from(tokenCounts)]).toEqual([
      [-1.5, -3],
      [2, 1],
    ]);
    const out = new Float64Array(3);
    expect((await backward(Float64Array.of(2, 5), { gradient: { out } })).gradLogProbs).toBe(out);
    expect(Array.from(out)).toEqual([1, 1, 5]);
    expect(await backward(Float64Array.of(2, 5), { gradient: 'none' })).toEqual({});
    await expect(backward(Float64Array.of(2))).rejects.toThrow(/gradScores: expected length 2/);
  });
});
