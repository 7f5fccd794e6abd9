import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DiscoOptions, defineLoss, disco, discoObjective, discoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { goldenBatch, goldenCases } from './support/golden.js';
import { expectGradient } from './support/losses.js';
import { fromLogProbs, fullBatch } from './support/named-losses.js';
import { groupOracle } from './support/oracle.js';

const SCORES = { 'log-likelihood': 'logLikelihood', 'likelihood-ratio': 'ratio' } as const;

const VARIANTS: [name: string, options: DiscoOptions][] = [
  ['log-likelihood', {}],
  ['ratio', { score: 'ratio' }],
  ['log-likelihood, sharp', { tau: 0.5 }],
  ['log-likelihood, plain difference', { tau: null }],
  ['ratio, plain difference', { score: 'ratio', tau: null }],
  ['log-likelihood with the constraint', { klConstraint: { beta: 3, delta: 1e-3 } }],
  ['ratio with the constraint', { score: 'ratio', klConstraint: { beta: 3, delta: 1e-3 } }],
];

/** A batch whose policy has moved away from the old one by a KL above 0. */
function movedBatch(seed: number, groups = 4) {
  const batch = fullBatch(seed, { groups });
  return { ...batch, oldLogProbs: batch.oldLogProbs.map((old) => old + 0.4) };
}

describeBackends('disco', (backend) => {
  describe('golden cases', () => {
    test.each(goldenCases('disco'))('%s', async (_name, golden) => {
      const batch = goldenBatch(golden);
      const { tau, temperature } = golden.options;
      const score = SCORES[golden.options.score as keyof typeof SCORES];
      const options = { score, tau, temperature, logProbs: true, backend };
      const result = await disco(batch, options);
      expectClose(result.scores, golden.expected.scores, 1e-6);
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
      expectCloseNumber(
        result.groupLosses.reduce((sum, loss) => sum + loss, 0) / result.groupLosses.length,
        result.loss,
        1e-13,
        1e-3,
      );
    });
  });

  describe.each(VARIANTS)('%s', (_name, options) => {
    test('finite differences down to the logits', () => {
      expectGradient(backend, movedBatch(5, 3), (moved, on) => discoSync(moved, { ...options, backend: on }));
    });

    test('random batches: the published formula', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const batch = fromLogProbs(movedBatch(seed));
          const { score = 'logLikelihood', tau = score === 'ratio' ? 1 : 10 } = options;
          const klConstraint = options.klConstraint as { beta: number; delta: number } | undefined;
          const result = discoSync(batch, { ...options, backend });
          const expected = groupOracle(batch, 'disco', score, { tau, klConstraint });
          expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
          expectClose(result.gradLogProbs, expected.gradient, 1e-11);
        }),
        { numRuns: 15 },
      );
    });
  });

  describe('the constraint on KL', () => {
    test("true is the paper's beta 1e3 and delta 1e-4", () => {
      const batch = movedBatch(5);
      const constrained = discoSync(batch, { klConstraint: true, backend });
      expect(constrained).toEqual(discoSync(batch, { klConstraint: { beta: 1e3, delta: 1e-4 }, backend }));
      expect(constrained).toEqual(discoSync(batch, { klConstraint: {}, backend }));
      expect(constrained.loss).toBeGreaterThan(discoSync(batch, { backend }).loss);
    });

    test('is off by default, within delta, and where KL is negative', () => {
      const batch = movedBatch(6);
      const free = discoSync(batch, { backend });
      expect(discoSync(batch, { klConstraint: false, backend })).toEqual(free);
      expect(discoSync(batch, { klConstraint: { delta: 10 }, backend })).toEqual(free);
      const oldLogProbs = batch.oldLogProbs.map((old) => old - 2);
      const behind = { ...batch, oldLogProbs };
      expect(discoSync(behind, { klConstraint: true, backend })).toEqual(discoSync(behind, { backend }));
    });

    test('on-policy it is 0, in value and gradient', () => {
      const { oldLogProbs: _old, ...batch } = movedBatch(7);
      expect(discoSync(batch, { klConstraint: true, backend })).toEqual(discoSync(batch, { backend }));
    });

    test('holds groups of one sign too: it is of the policy, not of the contrast', () => {
      const batch = fromLogProbs(movedBatch(8));
      const { mask, oldLogProbs, logProbs } = batch;
      const tokens = mask.reduce((sum, m) => sum + m, 0);
      const kl = logProbs.reduce((sum, l, t) => (mask[t] ? sum + (oldLogProbs[t] - l) / tokens : sum), 0);
      const oneSigned = { ...batch, rewards: batch.rewards.map(() => 1) };
      const result = discoSync(oneSigned, { klConstraint: { beta: 2, delta: 0.1 }, backend });
      expectCloseNumber(result.loss, (kl - 0.1) ** 2, 1e-12);
      const expected = Array.from(mask, (m) => (m ? (-2 * (kl - 0.1)) / tokens : 0));
      expectClose(result.gradLogProbs, expected, 1e-12);
    });

    test('an all-masked batch has no KL', () => {
      const batch = movedBatch(9);
      batch.mask.fill(0);
      const result = discoSync(batch, { klConstraint: true, backend });
      expect(result.loss).toBe(0);
      expect(result.gradLogits).toEqual(new Float32Array(batch.logits.length));
    });

    test('far off-policy tokens are clamped and get no gradient', () => {
      const batch = fromLogProbs(movedBatch(10));
      const { logProbs: oldLogProbs, mask } = batch;
      const logProbs = oldLogProbs.map((old, t) => old - (t % 2 ? 100 : 1));
      const { loss, gradLogProbs } = discoSync(
        { ...batch, logProbs, oldLogProbs, rewards: batch.rewards.map(() => 1) },
        { klConstraint: { beta: 2, delta: 0 }, backend },
      );
      const counted = Array.from(mask).flatMap((m, t) => (m ? [t % 2 ? 20 : 1] : []));
      expectCloseNumber(loss, (counted.reduce((sum, k) => sum + k, 0) / counted.length) ** 2, 1e-12);
      for (const [t, g] of gradLogProbs.entries()) expect(g !== 0, `token ${t}`).toBe(mask[t] === 1 && t % 2 === 0);
    });
  });

  test('no tau overflows', () => {
    for (const tau of [1e-300, 1e-12, 1e300]) {
      const { loss, gradLogits } = discoSync(movedBatch(11), { tau, backend });
      expectFinite([loss, gradLogits]);
    }
    const far = movedBatch(11);
    const oldLogProbs = far.oldLogProbs.map((old, t) => old - (t % 2 ? 1000 : 0)); // ratios of e^20
    const { loss, gradLogits } = discoSync({ ...far, oldLogProbs }, { score: 'ratio', tau: 0.01, backend });
    expectFinite([loss, gradLogits]);
  });

  test('a small tau is the hardest negative, a large one their mean', () => {
    const batch = {
      logProbs: Float64Array.of(-1, -2, -3, -4),
      cuSeqlens: Int32Array.of(0, 1, 2, 3, 4),
      cuGroups: Int32Array.of(0, 4),
      rewards: Float32Array.of(1, 0, 0, 0),
    };
    const hard = discoSync(batch, { tau: 1e-3, backend });
    expectCloseNumber(hard.loss, 1 - 2 - 1e-3 * Math.log(3), 1e-12);
    expectClose(hard.gradLogProbs, [-1, 1, 0, 0], 1e-12);
    const plain = discoSync(batch, { tau: null, backend });
    expectCloseNumber(plain.loss, 1 - 3, 1e-12);
    expectCloseNumber(discoSync(batch, { tau: 1e6, backend }).loss, plain.loss, 1e-6);
  });

  test('its objective in defineLoss is the loss', () => {
    const batch = movedBatch(12);
    const mine = defineLoss({ score: { kind: 'ratio' }, objective: discoObjective, defaults: { tau: 1 } });
    expect(mine.runSync(batch, { backend })).toEqual(discoSync(batch, { score: 'ratio', backend }));
    const plain = defineLoss({ score: 'logLikelihood', objective: discoObjective });
    expect(plain.runSync(batch, { klConstraint: true, backend })).toEqual(
      discoSync(batch, { klConstraint: true, backend }),
    );
  });

  test.each<[options: object, message: string]>([
    [{ tau: 0 }, 'tau: expected a finite number above 0, got 0'],
    [{ tau: NaN }, 'tau: expected a finite number above 0, got NaN'],
    [{ score: 'clippedRatio' }, "score: expected 'logLikelihood' or 'ratio', got \"clippedRatio\""],
    [{ normalizer: 0 }, 'normalizer: expected a finite number above 0, got 0'],
    [{ klConstraint: { beta: -1 } }, 'klConstraint.beta: expected a finite number at least 0, got -1'],
    [{ klConstraint: { delta: NaN } }, 'klConstraint.delta: expected a finite number at least 0, got NaN'],
  ])('bad options %o', (options, message) => {
    expect(() => discoSync(movedBatch(1), { ...(options as DiscoOptions), backend })).toThrow(
      expect.objectContaining({ name: 'RlvrError', code: 'ERR_RANGE', message }),
    );
  });

  test('klConstraint of another type', () => {
    expect(() => discoSync(movedBatch(1), { klConstraint: 3 as never, backend })).toThrow(
      expect.objectContaining({ code: 'ERR_DTYPE', message: 'klConstraint: expected an object, got 3' }),
    );
  });
});
