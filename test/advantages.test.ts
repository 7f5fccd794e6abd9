import { describe, expect, test } from 'vitest';
import { advantages } from '../lib/index.js';
import { expectClose } from './support/compare.js';

const rewards = Float32Array.of(1, 0, 0, 1, 1, 5, 0, 1);
const cuGroups = Int32Array.of(0, 3, 5, 6, 6, 8); // mixed, all equal, singleton, empty, pair

describe('advantages', () => {
  test('grpo: sample standard deviation and eps 1e-4 by default', () => {
    const std = Math.sqrt(((2 / 3) ** 2 + 2 * (1 / 3) ** 2) / 2);
    const expected = [2 / 3 / (std + 1e-4), -1 / 3 / (std + 1e-4), -1 / 3 / (std + 1e-4)];
    const pair = 0.5 / (Math.SQRT1_2 + 1e-4);
    expectClose(advantages({ rewards, cuGroups }), [...expected, 0, 0, 0, -pair, pair], 1e-14);
  });

  test('grpo with the population standard deviation', () => {
    const result = advantages({ rewards: Float32Array.of(1, 0), cuGroups: Int32Array.of(0, 2) }, { ddof: 0, eps: 0 });
    expect(Array.from(result)).toEqual([1, -1]);
  });

  test('drGrpo, rloo, opo', () => {
    const inputs = {
      rewards: Float32Array.of(1, 0, 0),
      cuGroups: Int32Array.of(0, 3),
      tokenCounts: Float64Array.of(4, 2, 2),
    };
    expectClose(advantages(inputs, { estimator: 'drGrpo' }), [2 / 3, -1 / 3, -1 / 3], 1e-14);
    expectClose(advantages(inputs, { estimator: 'rloo' }), [1, -0.5, -0.5], 1e-14);
    expectClose(advantages(inputs, { estimator: 'opo' }), [0.5, -0.5, -0.5], 1e-14);
  });

  test.each(['grpo', 'drGrpo', 'rloo', 'opo'] as const)('%s: equal rewards give exactly 0', (estimator) => {
    const equal = {
      rewards: new Float32Array(5).fill(0.1),
      cuGroups: Int32Array.of(0, 1, 5),
      tokenCounts: new Float64Array(5).fill(3),
    };
    expect(Array.from(advantages(equal, { estimator, eps: 0 }))).toEqual([0, 0, 0, 0, 0]);
  });

  test('bad input is named', () => {
    expect(() => advantages({ rewards, cuGroups }, { estimator: 'opo' })).toThrow(/tokenCounts: expected/);
    expect(() => advantages({ rewards, cuGroups }, { estimator: 'ppo' as 'opo' })).toThrow(
      /estimator: expected .* got "ppo"/,
    );
    expect(() => advantages({ rewards, cuGroups: Int32Array.of(0, 7) })).toThrow(
      /cuGroups: expected a last offset of 8/,
    );
    expect(() => advantages({ rewards: Float32Array.of(NaN), cuGroups: Int32Array.of(0, 1) })).toThrow(
      /rewards: expected finite/,
    );
  });
});
