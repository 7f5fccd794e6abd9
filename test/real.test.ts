// REAL's objective: in numbers, far from 0, and what it refuses. What every loss must do is in policy-losses.test.ts.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defineLoss, realObjective, realSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { expectSum } from './support/losses.js';
import { fromLogProbs, fullBatch, groupsOf } from './support/named-losses.js';

const ofLogProbs = defineLoss({ score: 'logLikelihood', objective: realObjective });

/** One token in each sequence, whose log-ratio is its score. */
function batchOf(scores: number[], rewards: number[], cuGroups = [0, scores.length]) {
  const shift = Math.ceil(Math.max(0, ...scores)); // log-probs are at most 0
  return {
    logProbs: Float64Array.from(scores, (score) => score - shift),
    oldLogProbs: new Float64Array(scores.length).fill(-shift),
    cuSeqlens: Int32Array.from({ length: scores.length + 1 }, (_, i) => i),
    cuGroups: Int32Array.from(cuGroups),
    rewards: Float32Array.from(rewards),
  };
}

describeBackends('real', (backend) => {
  test('in numbers: two positives, a negative, and a group of one sign', () => {
    const batch = batchOf([0.5, -0.2, 0.1, 3], [1, 1, 0, 1], [0, 3, 4]);
    const { loss, scores, groupLosses, gradLogProbs } = realSync(batch, { tau: 0.5, backend });
    const [a, b, c] = [Math.exp(-1), Math.exp(0.4), Math.exp(0.2)];
    const expected = Math.log(1 + a + b) + Math.log(1 + c);
    expectClose(scores, [0.5, -0.2, 0.1, 3], 1e-14);
    expectClose(groupLosses, [expected, 0], 1e-14);
    expectCloseNumber(loss, expected / 2, 1e-14);
    expectClose(gradLogProbs, [-a / (1 + a + b), -b / (1 + a + b), c / (1 + c), 0], 1e-14); // 1 / tau / G is 1
  });

  test('the default temperature is 0.5', () => {
    const batch = fromLogProbs(fullBatch(4, { groups: 4 }));
    expect(realSync(batch, { backend })).toEqual(realSync(batch, { tau: 0.5, backend }));
    expect(realSync(batch, { backend }).loss).not.toBe(realSync(batch, { tau: 0.6, backend }).loss);
  });

  test('scores far apart, at low temperatures: the value, not infinity', () => {
    const { loss, gradLogProbs } = realSync(batchOf([-20, 20, 20, -20], [1, 0, 1, 0]), { tau: 1e-3, backend });
    expectCloseNumber(loss, 4e4, 1e-12); // those on the wrong side: 20 / tau each
    expectClose(gradLogProbs, [-1e3, 1e3, 0, 0], 1e-12);
  });

  test('a gradient of at most 1 / tau in all positives, and all negatives', () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(0.01, 0.5, 10), (seed, tau) => {
        const batch = fromLogProbs(fullBatch(seed, { groups: 1, spread: 5 }));
        const { gradLogProbs } = realSync(batch, { tau, backend });
        expectFinite(gradLogProbs);
        const gradient = Array.from(gradLogProbs);
        const sum = (sign: number) => gradient.reduce((total, g) => total + Math.max(sign * g, 0), 0);
        expect(Math.max(sum(1), sum(-1)) * tau).toBeLessThan(1 + 1e-12);
      }),
      { numRuns: 20 },
    );
  });

  test('groups add up with a normalizer', () => {
    const batch = fromLogProbs(fullBatch(6, { groups: 6 }));
    const whole = realSync(batch, { backend });
    const parts = [groupsOf(batch, 0, 2), groupsOf(batch, 2, 6)].map((part) =>
      realSync(part, { normalizer: 6, backend }),
    );
    expectSum(parts, whole, 1e-13);
  });

  test('on other scores', () => {
    const batch = batchOf([-0.1, -0.7], [1, 0]);
    const { loss } = ofLogProbs.runSync(batch, { tau: 1, backend });
    expectCloseNumber(loss, Math.log1p(Math.exp(0.1)) + Math.log1p(Math.exp(-0.7)), 1e-14);
  });

  describe('refused, by name', () => {
    test.each<[name: string, options: object, code: string, message: string]>([
      ['a temperature of 0', { tau: 0 }, 'ERR_RANGE', 'tau: expected'],
      ['a normalizer of 0', { normalizer: 0 }, 'ERR_RANGE', 'normalizer: expected'],
      ['a temperature too small for the gradient', { tau: 5e-324 }, 'ERR_NONFINITE', 'tau too small'],
      ["another loss's option", { klCoef: 0.1 }, 'ERR_OPTION', 'klCoef: no such option of real'],
    ])('%s', (_name, options, code, message) => {
      const run = () => realSync(batchOf([0.5, 0.1], [1, 0]), { ...options, backend });
      expect(run).toThrow(rlvrError(code, message));
    });
  });
});
