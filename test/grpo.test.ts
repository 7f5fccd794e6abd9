import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { advantages, type GrpoOptions, grpo, grpoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { goldenBatch, goldenCases } from './support/golden.js';
import { expectGradient, expectSum } from './support/losses.js';
import { tokenCountsOf } from './support/packed.js';
import { joinLogProbBatches, randomBatch } from './support/random.js';

const VARIANTS: [name: string, options: GrpoOptions][] = [
  ['GRPO', {}],
  ['DAPO', { epsilonHigh: 0.28, aggregation: 'token-mean' }],
  ['Dr. GRPO', { aggregation: 'constant-length', maxLength: 16, advantage: { estimator: 'drGrpo' } }],
  ['KL k1', { klCoef: 0.1, klEstimator: 'k1' }],
  ['KL k2', { klCoef: 0.1, klEstimator: 'k2', aggregation: 'token-mean' }],
  ['KL k3', { klCoef: 0.1 }],
  ['discriminative', { form: 'discriminative' }],
];

describeBackends('grpo', (backend) => {
  describe('golden cases of every clipped-ratio loss', () => {
    test.each(goldenCases('grpo', 'dapo', 'dr_grpo'))('%s', async (_name, golden) => {
      const batch = goldenBatch(golden);
      const advantage = golden.kind === 'dr_grpo' ? { estimator: 'drGrpo' as const } : {};
      const options = { ...golden.options, advantage, logProbs: true, backend };
      const result = await grpo(batch, options);
      expectClose(result.advantages!, golden.expected.advantages, 1e-12);
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
      const { logits: _logits, targets: _targets, ...rest } = batch;
      const fromLogProbs = grpoSync({ ...rest, logProbs: result.logProbs! }, options);
      expectClose(fromLogProbs.gradLogProbs, golden.expected.gradLogProbs, 2e-6);
    });
  });

  describe('golden cases of the discriminative form', () => {
    test.each(goldenCases('grpoDiscriminative'))('%s', async (_name, golden) => {
      const result = await grpo(goldenBatch(golden), { ...golden.options, form: 'discriminative', backend });
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
    });
  });

  describe.each(VARIANTS)('%s', (_name, options) => {
    test('finite differences down to the logits', () => {
      const batch = randomBatch(3, { vocab: 5, groups: 3 });
      expectGradient(backend, batch, (moved, on) => grpoSync(moved, { ...options, backend: on }));
    });

    test('random batches agree with the reference; async and sync have the same bits', async () => {
      await fc.assert(
        fc.asyncProperty(fc.integer(), async (seed) => {
          const batch = randomBatch(seed, { vocab: 6, groups: 4 });
          const expected = grpoSync(batch, { ...options, backend: 'reference' });
          const actual = grpoSync(batch, { ...options, backend });
          expectCloseNumber(actual.loss, expected.loss, 2e-6, 1);
          expectClose(actual.gradLogits, expected.gradLogits, 2e-6);
          expect(await grpo(batch, { ...options, backend })).toEqual(actual);
        }),
        { numRuns: backend === 'cuda' ? 5 : 20 }, // the emulation takes a second for each
      );
    });

    test('omitting oldLogProbs is passing the current log-probs', () => {
      const { oldLogProbs: _old, ...batch } = randomBatch(8, { vocab: 5, groups: 4 });
      const omitted = grpoSync(batch, { ...options, logProbs: true, backend });
      const passed = grpoSync({ ...batch, oldLogProbs: omitted.logProbs! }, { ...options, backend });
      expect(passed.loss).toBe(omitted.loss);
      expect(passed.gradLogits).toEqual(omitted.gradLogits);
    });

    test('far off-policy: finite', () => {
      const batch = randomBatch(10, { vocab: 5, groups: 4 });
      const far = batch.oldLogProbs.map((l, t) => l + (t % 2 ? 100 : -100));
      const { loss, gradLogits } = grpoSync({ ...batch, oldLogProbs: far, refLogProbs: far }, { ...options, backend });
      expectFinite([loss, gradLogits]);
    });
  });

  test('advantage and discriminative forms are equal for binary rewards, population std, eps 0 and equal groups', () => {
    const random = new Random(2);
    const [groups, size] = [5, 6];
    const sequences = groups * size;
    const logProbs = Float64Array.from({ length: 2 * sequences }, () => -Math.abs(random.normal()));
    const batch = {
      logProbs,
      oldLogProbs: logProbs.map((l) => l + 0.3 * random.normal()),
      cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, i) => 2 * i),
      cuGroups: Int32Array.from({ length: groups + 1 }, (_, g) => size * g),
      rewards: Float32Array.from({ length: sequences }, (_, i) => (i < size ? 1 : random.uniform() < 0.4 ? 1 : 0)), // one group one-signed
    };
    const weighted = grpoSync(batch, { advantage: { ddof: 0, eps: 0 }, backend });
    const contrast = grpoSync(batch, { form: 'discriminative', backend });
    expectCloseNumber(contrast.loss, weighted.loss, 1e-12);
    expectClose(contrast.gradLogProbs, weighted.gradLogProbs, 1e-12);
  });

  test('advantages of the batch replace the estimator', () => {
    const batch = randomBatch(14, { vocab: 5, groups: 4 });
    const own = advantages(batch, { estimator: 'rloo' });
    const given = grpoSync({ ...batch, advantages: own }, { backend });
    const estimated = grpoSync(batch, { advantage: { estimator: 'rloo' }, backend });
    expect(given).toEqual(estimated);
  });

  test('opo weighs by unmasked tokens', () => {
    const batch = randomBatch(15, { vocab: 5, groups: 4 });
    const tokenCounts = tokenCountsOf(batch);
    const { advantages: used } = grpoSync(batch, { advantage: { estimator: 'opo' }, backend });
    expect(used).toEqual(advantages({ ...batch, tokenCounts }, { estimator: 'opo' }));
  });

  test("micro-batches with the whole batch's normalizer add up to it", () => {
    const parts = [21, 22, 23].map((seed) => randomBatch(seed, { vocab: 4, groups: 2 }));
    const whole = joinLogProbBatches(parts);
    const tokens = whole.mask.reduce((sum, m) => sum + m, 0);
    for (const [aggregation, normalizer] of [
      ['sequence-mean', whole.rewards.length],
      ['token-mean', tokens],
    ] as const) {
      const options = { aggregation, klCoef: 0.2, backend };
      const total = grpoSync(whole, options);
      const micro = parts.map((part) => grpoSync(joinLogProbBatches([part]), { ...options, normalizer }));
      expectSum(micro, total, 1e-12);
    }
  });

  test('metrics: clip fractions, KL and entropy', () => {
    const batch = randomBatch(30, { vocab: 5, groups: 6 });
    const { metrics } = grpoSync(batch, {
      klCoef: 0.1,
      klEstimator: 'k1',
      entropy: true,
      epsilonLow: 0,
      epsilonHigh: 0,
      backend,
    });
    expect(metrics.tokens).toBe(batch.mask.reduce((sum, m) => sum + m, 0));
    expect(metrics.clipFractionLow! + metrics.clipFractionHigh!).toBeGreaterThan(0);
    expect(metrics.clipFractionLow! + metrics.clipFractionHigh!).toBeLessThanOrEqual(1);
    const { logProbs } = grpoSync(batch, { logProbs: true, backend });
    const k1 = batch.refLogProbs.reduce((sum, ref, t) => sum + (batch.mask[t] ? logProbs![t] - ref : 0), 0);
    expectCloseNumber(metrics.kl!, k1 / metrics.tokens, 1e-9);
    expect(metrics.entropy!).toBeGreaterThan(0);
    expect(metrics.entropy!).toBeLessThan(Math.log(5));
  });
});
