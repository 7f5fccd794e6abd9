import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { offsetsOf } from '../bench/problems/rollouts.js';
import { groupInfoNCE, groupInfoNCESync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { goldenCases } from './support/golden.js';

function randomGroups(seed: number) {
  const random = new Random(seed);
  const sizes = Array.from({ length: 5 }, () => Math.floor(random.uniform() * 7));
  const cuGroups = offsetsOf(sizes);
  const scores = Float64Array.from({ length: cuGroups[5] }, () => 2 * random.normal());
  const rewards = Float32Array.from(scores, () => (random.uniform() < 0.4 ? 1 : -1));
  return { scores, rewards, cuGroups };
}

/** -J_g by the formula, in the naive way that overflows for large scores. */
function naiveGroupLoss(scores: number[], rewards: number[], tau: number, margin: number): number {
  const positives = scores.filter((_, i) => rewards[i] > 0);
  const negatives = scores.filter((_, i) => !(rewards[i] > 0));
  if (positives.length === 0 || negatives.length === 0) return 0;
  const others = negatives.reduce((sum, s) => sum + Math.exp(s / tau), 0);
  const terms = positives.map((s) => {
    const own = Math.exp((s - margin) / tau);
    return -tau * Math.log1p(others / own); // log(own / (own + others)) without its cancellation
  });
  return -terms.reduce((a, b) => a + b, 0) / positives.length;
}

describeBackends('group-info-nce', (backend) => {
  describe('golden cases', () => {
    test.each(goldenCases('groupInfoNCE'))('%s', (_name, { input, options, expected }) => {
      const inputs = {
        scores: Float64Array.from(input.scores),
        rewards: Float32Array.from(input.rewards),
        cuGroups: Int32Array.from(input.cuGroups),
      };
      const { loss, groupLosses, gradScores } = groupInfoNCESync(inputs, { ...options, backend });
      expectCloseNumber(loss, expected.loss, 1e-12, 1e-12);
      expectClose(groupLosses, expected.groupLosses, 1e-12);
      expectClose(gradScores, expected.gradScores, 1e-12);
    });
  });

  test('random groups: the formula, zero-sum gradients, the same bits async', async () => {
    const parameters = fc.record({
      seed: fc.integer(),
      tau: fc.constantFrom(0.1, 1, 4),
      margin: fc.constantFrom(0, 0.3, -1),
    });
    await fc.assert(
      fc.asyncProperty(parameters, async ({ seed, tau, margin }) => {
        const inputs = randomGroups(seed);
        const { scores, rewards, cuGroups } = inputs;
        const result = groupInfoNCESync(inputs, { tau, margin, backend });
        const expected = Array.from(result.groupLosses, (_, g) => {
          const member = <A extends Float32Array | Float64Array>(values: A) =>
            Array.from(values.subarray(cuGroups[g], cuGroups[g + 1]));
          return naiveGroupLoss(member(scores), member(rewards), tau, margin);
        });
        expectClose(result.groupLosses, expected, 1e-11);
        expectCloseNumber(result.loss, expected.reduce((a, b) => a + b, 0) / 5, 1e-11, 1e-12);
        for (let g = 0; g < 5; g++) {
          const sum = result.gradScores.subarray(cuGroups[g], cuGroups[g + 1]).reduce((a, b) => a + b, 0);
          expect(Math.abs(sum)).toBeLessThan(1e-15);
        }
        expect(await groupInfoNCE(inputs, { tau, margin, backend })).toEqual(result);
      }),
      { numRuns: 40 },
    );
  });

  test('finite differences', () => {
    const inputs = randomGroups(12);
    const options = { tau: 0.3, margin: 0.2, backend };
    const { gradScores } = groupInfoNCESync(inputs, options);
    const step = 1e-6;
    const numeric = inputs.scores.map((_, i) => {
      const at = (delta: number) =>
        groupInfoNCESync({ ...inputs, scores: inputs.scores.map((s, k) => (k === i ? s + delta : s)) }, options).loss;
      return (at(step) - at(-step)) / (2 * step);
    });
    expect(Math.hypot(...gradScores)).toBeGreaterThan(0);
    expectClose(gradScores, numeric, 1e-7);
  });

  test('shifting all scores of a group changes nothing; permuting it permutes the gradient', () => {
    const scores = Float64Array.of(0.5, -1, 2, 0.25, -0.5);
    const rewards = Float32Array.of(1, 0, 0, 1, 0);
    const cuGroups = Int32Array.of(0, 5);
    const plain = groupInfoNCESync({ scores, rewards, cuGroups }, { backend });
    const shifted = groupInfoNCESync({ scores: scores.map((s) => s + 1024), rewards, cuGroups }, { backend });
    expectClose(shifted.gradScores, plain.gradScores, 1e-9);
    const order = [3, 1, 4, 0, 2];
    const pick = <A extends Float32Array | Float64Array>(values: A) => values.map((_, i) => values[order[i]]) as A;
    const permuted = groupInfoNCESync({ scores: pick(scores), rewards: pick(rewards), cuGroups }, { backend });
    expectCloseNumber(permuted.loss, plain.loss, 1e-14);
    expectClose(permuted.gradScores, pick(plain.gradScores), 1e-14);
  });

  test.each([1e-300, 1e-8, 0.1, 1e8])('no overflow at scores of +-1e6, tau %d', (tau) => {
    const scores = Float64Array.of(1e6, -1e6, 1e6, -1e6);
    const inputs = { scores, rewards: Float32Array.of(0, 1, 1, 0), cuGroups: Int32Array.of(0, 4) };
    const { loss, gradScores } = groupInfoNCESync(inputs, { tau, backend });
    if (tau < 1) expectCloseNumber(loss, 1e6 + (tau * Math.log(2)) / 2, 1e-9); // (2e6 + tau log 2) / 2
    expectFinite([loss, gradScores]);
  });

  test('a group without any token adds nothing; one with some keeps its empty sequences, at score 0', () => {
    const inputs = {
      scores: new Float64Array(4),
      rewards: Float32Array.of(1, 0, 1, 0),
      cuGroups: Int32Array.of(0, 2, 4),
    };
    const tokenCounts = Float64Array.of(0, 0, 0, 3);
    const { groupLosses, gradScores } = groupInfoNCESync({ ...inputs, tokenCounts }, { tau: 1, backend });
    expectClose(groupLosses, [0, Math.LN2], 1e-15);
    expectClose(gradScores, [0, 0, -0.25, 0.25], 1e-15);
    expect(() => groupInfoNCESync({ ...inputs, tokenCounts: Float64Array.of(1, 1, -1, 1) }, { backend })).toThrow(
      /tokenCounts: expected counts of at least 0, got -1 at index 2/,
    );
  });

  test('the margin moves the positives back; the threshold chooses them; the normalizer divides', () => {
    const inputs = { scores: Float64Array.of(1, 0), rewards: Float32Array.of(0.9, 0.4), cuGroups: Int32Array.of(0, 2) };
    const loss = (options: object) =>
      groupInfoNCESync(inputs, { tau: 1, positiveThreshold: 0.5, backend, ...options }).loss;
    expectCloseNumber(loss({}), Math.log1p(Math.exp(-1)), 1e-14);
    expectCloseNumber(loss({ margin: 0.25 }), Math.log1p(Math.exp(-0.75)), 1e-14);
    expectCloseNumber(loss({ normalizer: 4 }), Math.log1p(Math.exp(-1)) / 4, 1e-14);
    expect(loss({ positiveThreshold: 0 })).toBe(0); // both positive
  });
});
