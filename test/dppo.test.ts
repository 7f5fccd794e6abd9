// DPPO's two divergences: against the oracle, and where probabilities are 0 or 1.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dppoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { type AnyOptions, fromLogProbs, fullBatch, perTokenAdvantages } from './support/named-losses.js';
import { policyOracle } from './support/oracle.js';

describeBackends('dppo', (backend) => {
  test.each(['tv', 'kl'] as const)('%s: the published loss', (divergence) => {
    fc.assert(
      fc.property(fc.integer(), fc.boolean(), (seed, perToken) => {
        const given = fullBatch(seed, { vocab: 3, spread: 1 });
        const advantages = perTokenAdvantages(seed, given);
        const batch = { ...fromLogProbs(given), ...(perToken && { advantages }) };
        const options: AnyOptions = { divergence, epsilonLow: 0.1, epsilonHigh: 0.05, ratioMax: 1.5 };
        const expected = policyOracle(batch, 'dppo', { aggregation: 'token-mean', ...options });
        const result = dppoSync(batch, { ...options, backend });
        expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
        expectClose(result.gradLogProbs, expected.gradient, 1e-11);
      }),
      { numRuns: 40 },
    );
  });

  test.each(['tv', 'kl'] as const)('%s, at the ends of probability: finite, and Infinity is no bound', (divergence) => {
    const logProbs = Float64Array.of(0, -1e-9, -1e3, -0.1, 0, -1);
    const oldLogProbs = Float64Array.of(-1, 0, -0.1, -1e3, 0, -Infinity);
    const batch = {
      logProbs,
      oldLogProbs,
      cuSeqlens: Int32Array.of(0, 3, 6),
      cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(1, 0),
    };
    const rewards = batch.rewards.toReversed();
    for (const each of [batch, { ...batch, rewards }]) {
      expectFinite(dppoSync(each, { divergence, backend }));
      const { metrics } = dppoSync(each, { divergence, epsilonLow: Infinity, epsilonHigh: Infinity, backend });
      expect(metrics.clipFraction).toBe(0);
    }
  });
});
