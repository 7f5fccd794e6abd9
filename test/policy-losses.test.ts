// What every named loss must do: golden cases, finite differences, the oracle, batches that teach nothing, far off-policy.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bnpoSync,
  cispoSync,
  dapoSync,
  dppoSync,
  drGrpoSync,
  gmpoSync,
  grpoSync,
  gspoSync,
  realSync,
  sapoSync,
  tokenLogProbsSync,
  vespoSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { asInOracle, goldenBatch, goldenCases, laterGoldenCases } from './support/golden.js';
import { expectGradient, numericGradient } from './support/losses.js';
import {
  type AnyOptions,
  byName,
  FAMILIES,
  type FullBatch,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
  POLICY_LOSSES,
} from './support/named-losses.js';
import { type GROUP_FORMS, type GroupScore, groupOracle, oracleAdvantages, policyOracle } from './support/oracle.js';
import { spreadOver } from './support/packed.js';

const GOLDEN: Record<string, string> = {
  grpo: 'grpo',
  dapo: 'dapo',
  dr_grpo: 'drGrpo',
  gspo: 'gspo',
  gspo_token: 'gspo',
  gmpo: 'gmpo',
  cispo: 'cispo',
  sapo: 'sapo',
};

/** What multiplies a log-prob is a constant in these: their gradient is not the derivative of the value. */
const HELD = ['cispo', 'dppo', 'vespo'];

const lossNamed = (name: string) => NAMED_LOSSES.find((loss) => loss.name === name)!;

/** What each name stands for (spec section 5). */
const DEFAULTS: Record<string, AnyOptions> = {
  dapo: { epsilonHigh: 0.28, aggregation: 'token-mean' },
  bnpo: { aggregation: 'token-mean' },
  drGrpo: { aggregation: 'constant-length', advantage: { estimator: 'drGrpo' } },
  luspo: { aggregation: 'constant-length', maxLength: 1 },
  cispo: { aggregation: 'token-mean' },
  dppo: { aggregation: 'token-mean' },
  vespo: { aggregation: 'token-mean' },
};

const GROUP_ORACLES: Record<string, [keyof typeof GROUP_FORMS, GroupScore, object]> = {
  conspo: ['infoNCE', 'logLikelihood', { tau: 0.1 }],
  'grpo, discriminative': ['discriminative', 'clipped', {}],
  disco: ['disco', 'logLikelihood', { tau: 10 }],
  real: ['real', 'logRatio', { tau: 0.5 }],
  'disco on ratios': ['disco', 'ratio', { tau: 1 }],
  'disco, plain difference': ['disco', 'logLikelihood', { tau: null }],
};

function oracleOf({ name, options }: NamedLoss, batch: Parameters<typeof policyOracle>[0]) {
  if (name in FAMILIES) return policyOracle(batch, FAMILIES[name], { ...DEFAULTS[name], ...options });
  const [form, score, parameters] = GROUP_ORACLES[name];
  return groupOracle(batch, form, score, { margin: options.margin, ...parameters });
}

describeBackends('every loss', (backend) => {
  describe('golden cases by name', () => {
    test.each(goldenCases(...Object.keys(GOLDEN)))('%s', async (_name, golden) => {
      const { run, runSync } = lossNamed(GOLDEN[golden.kind]);
      const batch = goldenBatch(golden);
      const options = { ...asInOracle(golden.options), logProbs: true, backend };
      const result = await run(batch, options);
      expectClose(result.advantages!, golden.expected.advantages, 1e-12);
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
      const { logits: _logits, targets: _targets, ...rest } = batch;
      const fromLogProbs = runSync({ ...rest, logProbs: result.logProbs! }, options);
      expectClose(fromLogProbs.gradLogProbs, golden.expected.gradLogProbs, 2e-6);
    });

    test.each(goldenCases('gspo', 'gspo_token'))('%s: the token form has the same gradient', (_name, golden) => {
      const batch = goldenBatch(golden);
      const advantages = spreadOver(batch, golden.expected.advantages);
      const result = gspoSync({ ...batch, advantages }, { ...asInOracle(golden.options), backend });
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
    });

    test.each(laterGoldenCases('dppo', 'vespo', 'luspo', 'real'))('%s', (_name, golden) => {
      const { runSync } = lossNamed(golden.kind);
      const batch = goldenBatch(golden);
      const options = { ...golden.options, logProbs: true, backend };
      const result = runSync(batch, options);
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
      const { logits: _logits, targets: _targets, ...rest } = batch;
      const fromLogProbs = runSync({ ...rest, logProbs: result.logProbs! }, options);
      expectClose(fromLogProbs.gradLogProbs, golden.expected.gradLogProbs, 2e-6);
    });

    test.each(goldenCases('grpoDiscriminative'))('%s', (_name, golden) => {
      const options: AnyOptions = { ...golden.options, form: 'discriminative', backend };
      const result = lossNamed('grpo, discriminative').runSync(goldenBatch(golden), options);
      expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
    });
  });

  describe.each(byName(NAMED_LOSSES))('%s', (name, loss) => {
    const options = { ...loss.options, backend };

    if (!HELD.includes(name)) {
      test('finite differences down to the logits', () => {
        const batch = fullBatch(3);
        expectGradient(backend, batch, (moved, on) => loss.runSync(moved, { ...options, backend: on }));
      });
    }

    test('random batches: the published loss, token by token', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const batch = fullBatch(seed, { groups: 4, vocab: 4 });
          const { loss: value, gradLogProbs } = loss.runSync(fromLogProbs(batch), options);
          const expected = oracleOf(loss, fromLogProbs(batch));
          expectCloseNumber(value, expected.loss, 1e-11, 1e-1);
          expectClose(gradLogProbs, expected.gradient, 1e-11);
          const { gradLogits, logProbs } = loss.runSync(batch, { ...options, logProbs: true });
          const largest = Math.max(0, ...logProbs!.map(Math.abs)); // spec section 8: 1 / tau magnifies every rounding
          const tolerance = 2e-6 * Math.max(1, largest / ({ conspo: 0.1, real: 0.5 }[name] ?? Infinity));
          expectClose(gradLogits, oracleOf(loss, batch).gradient, tolerance);
        }),
        { numRuns: 15 },
      );
    });

    test('async and sync have the same bits', async () => {
      const batch = fullBatch(11, { groups: 5 });
      expect(await loss.run(batch, options)).toEqual(loss.runSync(batch, options));
    });

    test('omitting oldLogProbs is passing the current log-probs', () => {
      const { oldLogProbs: _old, ...batch } = fullBatch(8, { groups: 4 });
      const omitted = loss.runSync(batch, { ...options, logProbs: true });
      const passed = loss.runSync({ ...batch, oldLogProbs: omitted.logProbs! }, options);
      expect(passed.loss).toBe(omitted.loss);
      expect(passed.gradLogits).toEqual(omitted.gradLogits);
      expect(Math.hypot(...passed.gradLogits)).toBeGreaterThan(0);
    });

    test('masked tokens may hold anything, and empty sequences are nothing', () => {
      const batch = fullBatch(12, { groups: 5 });
      batch.mask.fill(0, batch.cuSeqlens[2], batch.cuSeqlens[3]);
      const { mask } = batch;
      const expected = loss.runSync(batch, options);
      const spoil = (values: Float64Array) => values.map((x, t) => (mask[t] ? x : [NaN, Infinity, -Infinity][t % 3]));
      const spoilt = {
        ...batch,
        logits: batch.logits.map((x, k) => (mask[Math.floor(k / 5)] ? x : NaN)),
        targets: batch.targets.map((y, t) => (mask[t] ? y : -100)),
        oldLogProbs: spoil(batch.oldLogProbs),
        refLogProbs: spoil(batch.refLogProbs),
        rolloutLogProbs: spoil(batch.rolloutLogProbs),
      };
      expect(loss.runSync(spoilt, options)).toEqual(expected);
      const ofMasked = expected.gradLogits.filter((_, k) => mask[Math.floor(k / 5)] === 0);
      expect(ofMasked.length).toBeGreaterThan(0);
      expect(ofMasked.every((g) => g === 0)).toBe(true);
    });

    test.each(['all positive', 'all negative', 'all masked'])('nothing to learn from: %s', (what) => {
      const batch = fullBatch(10, { groups: 5 });
      if (what === 'all masked') batch.mask.fill(0);
      else batch.rewards.fill(what === 'all positive' ? 1 : 0);
      const result = loss.runSync(batch, options);
      expect(result.loss).toBe(0);
      expect(result.gradLogits).toEqual(new Float32Array(batch.logits.length));
      if (result.groupLosses) expect(result.groupLosses).toEqual(new Float64Array(5));
      if (what !== 'all masked' && loss.over === 'advantages') {
        expect(result.advantages).toEqual(new Float64Array(batch.rewards.length));
      }
    });

    test('far off-policy: finite, and no gradient beyond 20', () => {
      const batch = fromLogProbs(fullBatch(10, { groups: 6 }));
      const gaps = [100, -100, 20.5, -20.5, 0.1, -0.1];
      const oldLogProbs = batch.logProbs.map((l, t) => l - gaps[t % 6]);
      const result = loss.runSync({ ...batch, oldLogProbs }, options);
      expectFinite([result.loss, result.scores, result.gradLogProbs]);
      expect(Math.hypot(...result.gradLogProbs)).toBeGreaterThan(0);
      if ([...HELD, 'conspo', 'disco', 'disco, plain difference'].includes(name)) return; // no gradient through a ratio
      expect(Array.from(result.gradLogProbs).filter((g, t) => g !== 0 && t % 6 < 4)).toEqual([]);
    });
  });

  test.each(HELD)('%s: finite differences with the weights held', (name) => {
    const { runSync, options } = lossNamed(name);
    const batch = fullBatch(3);
    const { gradLogits, logProbs } = runSync(batch, { ...options, logProbs: true, backend });
    const { logits: _logits, targets: _targets, ...rest } = batch;
    const { gradLogProbs } = runSync({ ...rest, logProbs: logProbs! }, { ...options, backend: 'reference' });
    expect(Math.hypot(...gradLogits)).toBeGreaterThan(0);
    const value = (moved: FullBatch) =>
      tokenLogProbsSync(moved, { backend: 'reference' }).logProbs.reduce((sum, l, t) => sum + gradLogProbs[t] * l, 0);
    expectClose(gradLogits, numericGradient(batch, value, 2 ** -8), 1e-6, 'finite differences');
  });

  test('cispo: finite differences with the ratios held', () => {
    const batch = fullBatch(3);
    const options = { ...lossNamed('cispo').options, backend };
    const { gradLogits, advantages } = cispoSync(batch, options);
    const logProbsOf = (moved: FullBatch) => tokenLogProbsSync(moved, { backend: 'reference' }).logProbs;
    const held = logProbsOf(batch).map((l, t) => Math.min(Math.max(Math.exp(l - batch.oldLogProbs[t]), 0.7), 1.3));
    const A = spreadOver(batch, advantages);
    const tokens = batch.mask.reduce((sum, m) => sum + m, 0);
    const value = (moved: FullBatch) =>
      logProbsOf(moved).reduce((sum, l, t) => (batch.mask[t] ? sum - (held[t] * A[t] * l) / tokens : sum), 0);
    expectClose(gradLogits, numericGradient(batch, value, 2 ** -8), 1e-6, 'finite differences');
  });

  test.each(byName(POLICY_LOSSES))('%s: advantages as the estimators say', (_name, { runSync, options }) => {
    const batch = fullBatch(17, { groups: 5 });
    const rewards = batch.rewards.map((r, i) => r + (i % 3));
    for (const estimator of ['grpo', 'drGrpo', 'rloo', 'opo'] as const) {
      const advantage = { estimator, ddof: 0 as const, eps: 1e-6 };
      const result = runSync({ ...batch, rewards }, { ...options, advantage, backend });
      expectClose(result.advantages!, oracleAdvantages({ ...batch, rewards }, advantage), 1e-13);
    }
  });

  describe('the defaults are those of the specification', () => {
    const batch = fullBatch(10, { groups: 5 });
    const policy: AnyOptions = { aggregation: 'sequence-mean', advantage: { estimator: 'grpo', ddof: 1, eps: 1e-4 } };
    const tokenMean: AnyOptions = { ...policy, aggregation: 'token-mean' };
    const clip = (epsilonLow: number, epsilonHigh: number) => ({ epsilonLow, epsilonHigh });
    const drGrpoDefaults = { aggregation: 'constant-length', advantage: { estimator: 'drGrpo' }, ...clip(0.2, 0.2) };

    test.each<[name: string, defaults: AnyOptions]>([
      ['grpo', { ...policy, ...clip(0.2, 0.2) }],
      ['dapo', { ...tokenMean, ...clip(0.2, 0.28) }],
      ['bnpo', { ...tokenMean, ...clip(0.2, 0.2) }],
      ['drGrpo', drGrpoDefaults as AnyOptions],
      ['gspo', { ...policy, ...clip(3e-4, 4e-4) }],
      [
        'luspo',
        { ...policy, ...clip(3e-4, 4e-4), aggregation: 'constant-length', maxLength: 1, ratioLevel: 'sequence' },
      ],
      ['gmpo', { ...policy, ...clip(0.4, 0.4) }],
      ['cispo', { ...tokenMean, ratioMin: 0, ratioMax: 5 }],
      ['dppo', { ...tokenMean, ...clip(0.2, 0.2), divergence: 'tv', ratioMax: 20 }],
      ['vespo', { ...tokenMean, kPos: 2, lambdaPos: 3, kNeg: 3, lambdaNeg: 2 }],
      ['sapo', { ...policy, tauPos: 1, tauNeg: 1.05 }],
      ['conspo', { tau: 0.1, margin: 0 }],
      ['real', { tau: 0.5 }],
      ['disco', { score: 'logLikelihood', tau: 10 }],
    ])('%s', (name, defaults) => {
      const { runSync } = lossNamed(name);
      const needed = name === 'drGrpo' ? { maxLength: 16 } : {};
      // beyond the widest of the clips, upwards and downwards
      const moves = batch.rewards.map((_, i) => (i % 2 ? 2 : -2));
      const oldLogProbs = batch.oldLogProbs.map((old, t) => old + spreadOver(batch, moves)[t]);
      const far = { ...batch, oldLogProbs };
      const plain = runSync(far, { ...needed, backend });
      if ('epsilonLow' in defaults) {
        expect(plain.metrics.clipFractionLow).toBeGreaterThan(0);
        expect(plain.metrics.clipFractionHigh).toBeGreaterThan(0);
      }
      expect(plain).toEqual(runSync(far, { ...needed, ...defaults, backend }));
      for (const key of Object.keys(defaults)) {
        const undefinedOption = { ...needed, [key]: undefined, backend };
        expect(runSync(far, undefinedOption), key).toEqual(plain);
      }
    });

    test('drGrpo wants maxLength', () => {
      // @ts-expect-error nor does it compile
      expect(() => drGrpoSync(batch, { backend })).toThrow(rlvrError('ERR_RANGE', 'maxLength'));
      const { loss } = drGrpoSync(batch, { aggregation: 'token-mean', backend });
      expect(loss).toBe(bnpoSync(batch, { advantage: { estimator: 'drGrpo' }, backend }).loss);
    });

    test('they can be overridden: each clipped-ratio loss is grpo with options', () => {
      const same = { ...policy, ...clip(0.1, 0.15), aggregation: 'token-mean' as const, backend };
      const expected = grpoSync(batch, same);
      expect(dapoSync(batch, same)).toEqual(expected);
      expect(bnpoSync(batch, same)).toEqual(expected);
      expect(drGrpoSync(batch, same)).toEqual(expected);
    });
  });

  test.each<[name: string, run: () => unknown, message: string]>([
    ['gspo', () => gspoSync(fullBatch(1), { epsilonLow: -1, backend }), 'epsilonLow: expected'],
    ['gmpo', () => gmpoSync(fullBatch(1), { epsilonHigh: NaN, backend }), 'epsilonHigh: expected'],
    ['cispo', () => cispoSync(fullBatch(1), { ratioMin: 2, ratioMax: 1, backend }), 'ratioMax: expected'],
    ['sapo', () => sapoSync(fullBatch(1), { tauPos: 0, backend }), 'tauPos: expected'],
    ['dppo', () => dppoSync(fullBatch(1), { divergence: 'js' as never, backend }), 'divergence: expected'],
    ['vespo', () => vespoSync(fullBatch(1), { lambdaPos: 0, backend }), 'lambdaPos: expected'],
    ['vespo', () => vespoSync(fullBatch(1), { kNeg: -1, backend }), 'kNeg: expected'],
    ['real', () => realSync(fullBatch(1), { tau: 0, backend }), 'tau: expected'],
    ['cispo', () => cispoSync(fullBatch(1), { ratioLevel: 'group' as never, backend }), 'ratioLevel: expected'],
    ['dapo', () => dapoSync(fullBatch(1), { dualClip: 0.5, backend }), 'dualClip: expected'],
    ['bnpo', () => bnpoSync(fullBatch(1), { delta: 0, backend }), 'delta: expected'],
    ['grpo', () => grpoSync(fullBatch(1), { normalizer: 0, backend }), 'normalizer: expected'],
  ])('bad options of %s are named', (_name, run, message) => {
    expect(run).toThrow(rlvrError('ERR_RANGE', message));
  });
});
