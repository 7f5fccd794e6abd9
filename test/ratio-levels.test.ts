// Losses on the ratio of a sequence, or of the sum of its log-ratios; each against the oracle.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { grpoSync, gspoSync, luspoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { expectGradient } from './support/losses.js';
import {
  type AnyOptions,
  FAMILIES,
  fromLogProbs,
  fullBatch,
  POLICY_LOSSES,
  perTokenAdvantages,
} from './support/named-losses.js';
import { policyOracle } from './support/oracle.js';

describeBackends('of what the ratio is', (backend) => {
  describe.each<[name: string, level: 'sequence' | 'sum', options: AnyOptions]>([
    ['grpo', 'sequence', { epsilonLow: 0.05, epsilonHigh: 0.08 }],
    ['grpo', 'sequence', { epsilonHigh: 0.3, dualClip: 1.1 }],
    ['gspo', 'sequence', { epsilonHigh: 0.3, delta: 1.1 }],
    ['cispo', 'sequence', { ratioMin: 0.9, ratioMax: 1.1 }],
    ['sapo', 'sequence', {}],
    ['grpo', 'sum', { epsilonLow: 0.3, epsilonHigh: 0.4 }],
    ['grpo', 'sum', { dualClip: 1.5, delta: 1.8, aggregation: 'token-mean' }],
    ['cispo', 'sum', { ratioMax: 1.5 }],
    ['sapo', 'sum', { tauNeg: 2 }],
  ])('%s on the ratio of a %s, %o', (name, ratioLevel, own) => {
    const { runSync } = POLICY_LOSSES.find((candidate) => candidate.name === name)!;
    const options: AnyOptions = { ...own, ratioLevel, klCoef: 0.3, klWeight: 'ratio' };
    // GSPO's bounds in TRL's and verl's surrogate: the family 'gspo' is for the loss without a level.
    const family = name === 'gspo' ? 'clipped' : FAMILIES[name];
    const aggregation = name === 'cispo' ? 'token-mean' : 'sequence-mean';

    test('the published loss', () => {
      fc.assert(
        fc.property(fc.integer(), fc.boolean(), fc.boolean(), (seed, perToken, onPolicy) => {
          const given = fullBatch(seed, { vocab: 3 });
          const advantages = perToken && ratioLevel === 'sequence' ? perTokenAdvantages(seed, given) : undefined;
          const oldLogProbs = onPolicy ? undefined : given.oldLogProbs;
          const batch = { ...fromLogProbs(given), oldLogProbs, ...(advantages && { advantages }) };
          const low = name === 'gspo' ? { epsilonLow: 3e-4 } : {};
          const expected = policyOracle(batch, family, { aggregation, ...low, ...options });
          const result = runSync(batch, { ...options, backend });
          expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
          expectClose(result.gradLogProbs, expected.gradient, 1e-11);
        }),
        { numRuns: 40 },
      );
    });

    test.skipIf(name === 'cispo')('finite differences down to the logits', () => {
      expectGradient(backend, fullBatch(3), (moved, on) => runSync(moved, { ...options, backend: on }));
    });

    test('of sums that leave the range of exp: finite', () => {
      const batch = fromLogProbs(fullBatch(6, { groups: 4 }));
      const { logProbs: oldLogProbs } = batch;
      const logProbs = oldLogProbs.map((old, t) => old - (t % 2 ? 19 : 15));
      const result = runSync({ ...batch, logProbs, oldLogProbs }, { ...options, backend });
      expectFinite([result.loss, result.scores, result.gradLogProbs]);
    });
  });

  test('gspo is grpo on the ratio of a sequence, luspo that weighted by lengths', () => {
    const batch = fullBatch(4);
    const clip = { epsilonLow: 3e-4, epsilonHigh: 4e-4, backend };
    const gspo = gspoSync(batch, { backend });
    expect(grpoSync(batch, { ...clip, ratioLevel: 'sequence' })).toEqual(gspo);
    const luspo = luspoSync(batch, { backend });
    expect(gspoSync(batch, { aggregation: 'constant-length', maxLength: 1, backend })).toEqual(luspo);
  });

  test("TRL's RLOO in numbers", () => {
    const batch = {
      logProbs: Float64Array.of(-1, -1.2, -2),
      oldLogProbs: Float64Array.of(-1.2, -1.1, -1.9),
      cuSeqlens: Int32Array.of(0, 2, 3),
      cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(1, 0),
    };
    const advantage = { estimator: 'rloo' } as const;
    const { loss, gradLogProbs, scores } = grpoSync(batch, { ratioLevel: 'sum', advantage, backend });
    const [up, down] = [Math.exp(0.1), Math.exp(-0.1)];
    expectClose(scores, [up, down], 1e-14);
    expectCloseNumber(loss, (down - up) / 2, 1e-14);
    expectClose(gradLogProbs, [-up / 2, -up / 2, down / 2], 1e-14);
  });
});
