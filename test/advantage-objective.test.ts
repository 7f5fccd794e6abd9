import { expect, test } from 'vitest';
import { advantageObjective, advantageObjectiveSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';

const inputs = {
  scores: Float64Array.of(1, 2, 3, 9),
  advantages: Float64Array.of(1, -1, 0.5, 7),
  tokenCounts: Float64Array.of(2, 3, 5, 0), // the last sequence is empty: it adds nothing, and counts in N
};

describeBackends('advantage-objective', (backend) => {
  test.each([
    ['sequence-mean', {}, [1 / 4, 1 / 4, 1 / 4, 0]],
    ['token-mean', {}, [0.2, 0.3, 0.5, 0]],
    ['constant-length', { maxLength: 10 }, [2 / 40, 3 / 40, 5 / 40, 0]],
    ['sequence-mean', { normalizer: 8 }, [1 / 8, 1 / 8, 1 / 8, 0]],
    ['token-mean', { normalizer: 100 }, [0.02, 0.03, 0.05, 0]],
  ] as const)('%s %o', async (aggregation, options, weights) => {
    const { loss, gradScores } = advantageObjectiveSync(inputs, { aggregation, ...options, backend });
    expectCloseNumber(loss, -(weights[0] * 1 - weights[1] * 2 + weights[2] * 1.5), 1e-14);
    expectClose(gradScores, [-weights[0], weights[1], -0.5 * weights[2], 0], 1e-14);
    expect(await advantageObjective(inputs, { aggregation, ...options, backend })).toEqual({ loss, gradScores });
  });

  test("micro-batches with the whole batch's normalizer add up to it", () => {
    const part = (begin: number, end: number) => ({
      scores: inputs.scores.subarray(begin, end),
      advantages: inputs.advantages.subarray(begin, end),
      tokenCounts: inputs.tokenCounts.subarray(begin, end),
    });
    for (const [aggregation, normalizer] of [
      ['sequence-mean', 4],
      ['token-mean', 10],
    ] as const) {
      const whole = advantageObjectiveSync(inputs, { aggregation, backend });
      const parts = [part(0, 1), part(1, 4)].map((p) =>
        advantageObjectiveSync(p, { aggregation, normalizer, backend }),
      );
      expectCloseNumber(parts[0].loss + parts[1].loss, whole.loss, 1e-14);
      expect([...parts[0].gradScores, ...parts[1].gradScores]).toEqual([...whole.gradScores]);
    }
  });
});
