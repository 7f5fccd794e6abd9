// What multiplies the policy term, and where else advantages come from: masks, weights of the caller's own, a teacher. Each is
// compared with a loss of advantages per token that the test itself makes.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { advantageWeighted, defineLoss, gmpoSync, grpo, grpoSync, gspoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { goldenBatch, policyGoldenCases } from './support/golden.js';
import { expectGradient } from './support/losses.js';
import {
  AGGREGATIONS,
  type AnyOptions,
  byName,
  FAMILIES,
  type FullBatch,
  fromLogProbs,
  fullBatch,
  type NamedLoss,
  POLICY_LOSSES,
} from './support/named-losses.js';
import { oracleAdvantages, policyOracle } from './support/oracle.js';
import { spreadOver, tokensOf } from './support/packed.js';

const reinforce = defineLoss({ score: 'logLikelihood', objective: advantageWeighted });

const ALL: NamedLoss[] = [
  ...POLICY_LOSSES.filter(({ name }) => name !== 'dapo' && name !== 'bnpo'), // grpo with other options
  { name: 'reinforce', over: 'advantages', options: {}, run: reinforce.run, runSync: reinforce.runSync },
];
/** All with the advantages that the oracle takes for granted. */
const LOSSES = ALL.map(
  (loss): NamedLoss => ({ ...loss, options: { ...loss.options, advantage: { estimator: 'grpo' } } }),
);
const OF_TOKENS = LOSSES.filter(({ name }) => name !== 'gmpo');

const given = (seed: number) => fromLogProbs(fullBatch(seed, { vocab: 3, groups: 4 }));
type Given = ReturnType<typeof given>;

const mean = (values: readonly number[]) => values.reduce((all, value) => all + value, 0) / Math.max(values.length, 1);
const kept = ({ mask }: { mask: Uint8Array }, values: Float64Array) => values.map((value, t) => (mask[t] ? value : 0));
/** [T] the advantages of each token's sequence. */
const perToken = (batch: FullBatch | Given) => spreadOver(batch, oracleAdvantages(batch));

const EXTRAS = fc.record({
  aggregation: fc.constantFrom(...AGGREGATIONS),
  kl: fc.option(fc.record({ klCoef: fc.constant(0.3) }), { nil: {} }),
  rolloutCorrection: fc.constantFrom(undefined, { max: 1.2 }, { level: 'sequence', max: 1.5 } as const),
});

/** The loss with these options, and the oracle's with those advantages in their place. */
function expectAsAdvantages(
  { name, options, runSync }: NamedLoss,
  batch: Given & { tokenWeights?: Float64Array; teacherLogProbs?: Float64Array },
  own: AnyOptions,
  advantages: ArrayLike<number>,
) {
  const { offPolicyMask: _mask, distillation: _teacher, ...others } = { ...options, ...own };
  const result = runSync(batch, { ...options, ...own });
  const expected = policyOracle({ ...batch, advantages }, FAMILIES[name], others);
  expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
  expectClose(result.gradLogProbs, expected.gradient, 1e-11);
}

/** [N] whether a sequence is far from what sampled it. */
const farOff = (batch: Given, delta: number, behaviour: Float64Array) =>
  Array.from(batch.rewards, (_, i) => mean(tokensOf(batch, i).map((t) => behaviour[t] - batch.logProbs[t])) > delta);

describeBackends('masks, weights and a teacher', (backend) => {
  test.each(policyGoldenCases('grpoMask', 'grpoDistillation'))('%s', async (_name, golden) => {
    const batch = goldenBatch(golden);
    const result = await grpo(batch, { ...golden.options, logProbs: true, backend });
    expectCloseNumber(result.loss, golden.expected.loss, 2e-6, 1e-2);
    expectClose(result.gradLogits, golden.expected.gradLogits, 2e-6);
    if ('entropyQuantile' in golden.options) return; // there are no entropies of log-probs
    const { logits: _logits, targets: _targets, ...rest } = batch;
    const { loss, gradLogProbs } = grpoSync({ ...rest, logProbs: result.logProbs! }, { ...golden.options, backend });
    expectCloseNumber(loss, golden.expected.loss, 2e-6, 1e-2);
    expectClose(gradLogProbs, golden.expected.gradLogProbs, 2e-6);
  });

  describe.each(byName(LOSSES))('%s', (name, loss) => {
    test('offPolicyMask: far sequences with a negative advantage drop out', () => {
      fc.assert(
        fc.property(fc.integer(), EXTRAS, fc.constantFrom(0, 0.05, 0.2), fc.boolean(), (seed, extras, delta, plain) => {
          const { rolloutLogProbs, ...rest } = given(seed);
          const level = name === 'gmpo' ? ({ level: 'sequence' } as const) : {};
          const rolloutCorrection =
            plain || !extras.rolloutCorrection ? undefined : { ...extras.rolloutCorrection, ...level };
          const batch = { ...rest, ...(!plain && { rolloutLogProbs }) } as Given;
          const far = farOff(batch, delta, plain ? batch.oldLogProbs : rolloutLogProbs);
          const advantages = oracleAdvantages(batch).map((A, i) => (A < 0 && far[i] ? 0 : A));
          const own = { ...extras.aggregation, ...extras.kl, rolloutCorrection, offPolicyMask: { delta }, backend };
          expectAsAdvantages(loss, batch, own as AnyOptions, advantages);
        }),
        { numRuns: 20 },
      );
    });
  });

  describe.each(byName(OF_TOKENS))('%s', (_name, loss) => {
    test('tokenWeights, and a mask on advantages per token', () => {
      fc.assert(
        fc.property(fc.integer(), EXTRAS, fc.boolean(), fc.boolean(), (seed, extras, given_, masked) => {
          const batch = given(seed);
          const random = new Random(seed + 3);
          const tokenWeights = Float64Array.from(batch.mask, (m) =>
            m ? [0, 0.5, 2][Math.floor(3 * random.uniform())] : Number.NaN,
          );
          const advantages = given_ ? Float64Array.from(batch.mask, () => random.normal()) : undefined;
          const far = farOff(batch, 0.05, batch.rolloutLogProbs);
          const all = advantages ?? perToken(batch);
          const isFar = spreadOver(batch, far.map(Number));
          const weighted = all.map((A, t) =>
            masked && A < 0 && isFar[t] ? 0 : A * (batch.mask[t] ? tokenWeights[t] : 0),
          );
          const own = { ...extras.aggregation, ...extras.kl, rolloutCorrection: extras.rolloutCorrection, backend };
          const mask = masked ? { offPolicyMask: { delta: 0.05 } } : {};
          const full = { ...batch, tokenWeights, ...(advantages && { advantages }) };
          expectAsAdvantages(loss, full, { ...own, ...mask } as AnyOptions, weighted);
        }),
        { numRuns: 20 },
      );
    });

    test('distillation, with rewards, with advantages, alone', () => {
      fc.assert(
        fc.property(fc.integer(), EXTRAS, fc.constantFrom('rewards', 'advantages', 'alone'), (seed, extras, kind) => {
          const batch = given(seed);
          const random = new Random(seed + 4);
          const teacherLogProbs = batch.logProbs.map((logProb, t) =>
            batch.mask[t] ? logProb + random.normal() : Number.NaN,
          );
          const advantages =
            kind === 'advantages' ? Float64Array.from(batch.rewards, () => random.normal()) : undefined;
          const { rewards, cuGroups, ...rest } = batch;
          const before = advantages
            ? spreadOver(batch, advantages)
            : kind === 'alone'
              ? batch.logProbs.map(() => 0)
              : perToken(batch);
          const expected = before.map((A, t) =>
            batch.mask[t] ? A + 0.7 * (teacherLogProbs[t] - batch.logProbs[t]) : 0,
          );
          const own = {
            ...loss.options,
            ...extras.aggregation,
            ...extras.kl,
            rolloutCorrection: extras.rolloutCorrection,
          };
          const options = { ...own, distillation: { coef: 0.7 }, backend } as AnyOptions;
          const full = {
            ...rest,
            teacherLogProbs,
            ...(advantages && { advantages }),
            ...(kind !== 'alone' && { rewards, cuGroups }),
          };
          const result = loss.runSync(full as typeof batch, options);
          const oracle = policyOracle({ ...batch, advantages: expected }, FAMILIES[loss.name], own as AnyOptions);
          expectCloseNumber(result.loss, oracle.loss, 1e-11, 1e-1);
          expectClose(result.gradLogProbs, oracle.gradient, 1e-11);
          expectClose(result.advantages!, kept(batch, expected), 1e-12);
          expect('rewardMean' in result.metrics).toBe(kind !== 'alone');
        }),
        { numRuns: 20 },
      );
    });

    test('entropyQuantile: the tokens of the highest entropies', () => {
      fc.assert(
        fc.property(fc.integer(), fc.constantFrom(0, 0.25, 0.8, 1), (seed, q) => {
          const batch = fullBatch(seed, { vocab: 4 });
          const { entropy } = loss.runSync(batch, { ...loss.options, entropy: true, backend });
          const counted = Array.from(entropy!)
            .filter((_, t) => batch.mask[t])
            .sort((a, b) => a - b);
          const place = q * (counted.length - 1);
          const [low, high] = [counted[Math.floor(place)], counted[Math.ceil(place)]];
          const threshold = low + (high - low) * (place - Math.floor(place));
          const masked = perToken(batch).map((A, t) => (entropy![t] >= threshold ? A : 0));
          const own = { ...loss.options, aggregation: 'token-mean', backend } as AnyOptions;
          const expected = loss.runSync({ ...batch, advantages: masked }, own);
          const result = loss.runSync(batch, { ...own, entropyQuantile: q });
          expectCloseNumber(result.loss, expected.loss, 1e-12, 1e-1);
          expectClose(result.gradLogits, expected.gradLogits, 1e-12);
        }),
        { numRuns: 15 },
      );
    });
  });

  test('entropyQuantile: many tokens, many of them alike', async () => {
    const tokens = backend === 'cuda' ? 500 : 40_000; // the emulation is slow
    const random = new Random(2);
    const logits = Float32Array.from({ length: 2 * tokens }, (_, k) => (k % 2 ? Math.round(3 * random.normal()) : 0));
    const batch = {
      logits,
      targets: new Int32Array(tokens),
      cuSeqlens: Int32Array.of(0, tokens / 2, tokens),
      advantages: Float32Array.of(1, -1),
    };
    const { entropy } = await grpo(batch, { entropy: true, gradient: 'none', backend });
    const sorted = entropy!.slice().sort();
    const threshold = sorted[Math.ceil(0.5 * (tokens - 1))];
    const { gradLogits } = await grpo(batch, { entropyQuantile: 0.5, backend });
    const dropped = Array.from(entropy!, (H, t) => H < threshold !== (gradLogits[2 * t] === 0));
    expect(dropped.some(Boolean)).toBe(false);
  });

  test.each<[name: string, options: AnyOptions]>([
    ['offPolicyMask', { offPolicyMask: { delta: 0.05 } }],
    ['entropyQuantile', { entropyQuantile: 0.5 }],
    ['with an entropy bonus and a KL penalty', { entropyQuantile: 0.5, entropyCoef: 0.1, klCoef: 0.2 }],
  ])('%s: finite differences down to the logits', (_name, options) => {
    for (const runSync of [grpoSync, gspoSync] as (typeof grpoSync)[]) {
      if (runSync === (gspoSync as unknown) && options.entropyQuantile) continue; // the token form stops a gradient
      expectGradient(backend, fullBatch(3), (moved, on) => runSync(moved, { ...options, backend: on }));
    }
  });

  test('tokenWeights: finite differences, and where the gradient is deferred or in one pass', () => {
    const batch = fullBatch(3);
    const tokenWeights = Float64Array.from(batch.mask, (_, t) => (t % 3) / 2);
    expectGradient(backend, { ...batch, tokenWeights }, (moved, on) => grpoSync(moved, { backend: on }));
    const whole = grpoSync(batch, { entropyQuantile: 0.4, backend });
    const deferred = grpoSync(batch, { entropyQuantile: 0.4, gradient: { deferred: true }, backend });
    const scaled = deferred.gradLogits.map((value, k) => value * deferred.rowScale[Math.floor(k / 5)]);
    expectClose(scaled, whole.gradLogits, 1e-6);
  });

  test('on-policy nothing is far off; alone, nothing is masked', () => {
    const { oldLogProbs: _old, rolloutLogProbs: _rollout, ...batch } = given(5);
    const plain = grpoSync(batch, { backend });
    expect(grpoSync(batch, { offPolicyMask: { delta: 0 }, backend })).toEqual(plain);
    const alike = grpoSync({ ...batch, tokenWeights: new Float32Array(batch.mask.length).fill(1) }, { backend });
    expect(alike.loss).toBe(plain.loss);
    expect(alike.gradLogProbs).toEqual(plain.gradLogProbs);
  });

  test('tokens that are missing or skipped are no evidence', () => {
    const batch = fullBatch(8);
    const options = { offPolicyMask: { delta: 0.01 }, entropyQuantile: 0.3, distillation: {}, backend } as const;
    const teacherLogProbs = batch.refLogProbs;
    const skipped = batch.mask.indexOf(1);
    const mask = batch.mask.map((m, t) => (t === skipped ? 0 : m));
    const logits = batch.logits.map((z, k) => (Math.floor(k / 5) === skipped ? Number.NaN : z));
    const expected = grpoSync({ ...batch, mask, teacherLogProbs }, options);
    const result = grpoSync({ ...batch, logits, teacherLogProbs }, { ...options, onNonFinite: 'skip' });
    expect(result.loss).toBe(expected.loss);
    expect(result.gradLogits).toEqual(expected.gradLogits);
    expect(() => grpoSync({ ...batch, logits, teacherLogProbs }, options)).toThrow(
      rlvrError('ERR_NONFINITE', /^logits/),
    );
    const all = { ...batch, teacherLogProbs, mask: new Uint8Array(mask.length) };
    const nothing = grpoSync(all, options);
    expect(nothing.loss).toBe(0);
    expect(nothing.gradLogits).toEqual(new Float32Array(batch.logits.length));
    const rolloutLogProbs = batch.rolloutLogProbs.map(() => Number.NaN);
    const rolloutCorrection = { missing: 'one' } as const;
    const unscored = grpoSync(
      { ...batch, rolloutLogProbs },
      { offPolicyMask: { delta: 0 }, rolloutCorrection, backend },
    );
    expect(unscored.loss).toBe(grpoSync(batch, { backend }).loss);
  });

  describe('refused, by name', () => {
    const batch = fullBatch(2);
    const tokens = batch.mask.length;
    const first = batch.mask.indexOf(1);
    const weights = (value: number) => new Float64Array(tokens).fill(1).fill(value, first, first + 1);
    const teacherLogProbs = batch.refLogProbs;
    test.each<[name: string, run: () => unknown, code: string, message: RegExp]>([
      [
        'delta',
        () => grpoSync(batch, { offPolicyMask: { delta: -1 }, backend }),
        'ERR_RANGE',
        /^offPolicyMask\.delta: /,
      ],
      [
        'no delta',
        () => grpoSync(batch, { offPolicyMask: {} as never, backend }),
        'ERR_RANGE',
        /^offPolicyMask\.delta: /,
      ],
      [
        'a number',
        () => grpoSync(batch, { offPolicyMask: 1 as never, backend }),
        'ERR_DTYPE',
        /^offPolicyMask: .*object/,
      ],
      [
        'above 1',
        () => grpoSync(batch, { entropyQuantile: 1.1, backend }),
        'ERR_RANGE',
        /^entropyQuantile: .*at most 1/,
      ],
      [
        'of log-probs',
        () => grpoSync(fromLogProbs(batch), { entropyQuantile: 0.5, backend }),
        'ERR_RANGE',
        /^entropyQuantile: expected none for a batch of log-probs/,
      ],
      [
        'gmpo, quantile',
        () => gmpoSync(batch, { entropyQuantile: 0.5, backend }),
        'ERR_RANGE',
        /^entropyQuantile: expected weights per sequence/,
      ],
      [
        'gmpo, weights',
        () => gmpoSync({ ...batch, tokenWeights: weights(1) }, { backend }),
        'ERR_RANGE',
        /^tokenWeights: expected weights per sequence/,
      ],
      [
        'gmpo, teacher',
        () => gmpoSync({ ...batch, teacherLogProbs }, { distillation: {}, backend }),
        'ERR_RANGE',
        /^distillation: expected weights per sequence/,
      ],
      [
        'negative weights',
        () => grpoSync({ ...batch, tokenWeights: weights(-1) }, { backend }),
        'ERR_RANGE',
        new RegExp(`^tokenWeights: .*-1 at index ${first}`),
      ],
      [
        'NaN weights',
        () => grpoSync({ ...batch, tokenWeights: weights(Number.NaN) }, { backend }),
        'ERR_NONFINITE',
        /^tokenWeights: .*NaN/,
      ],
      [
        'short weights',
        () => grpoSync({ ...batch, tokenWeights: new Float32Array(1) }, { backend }),
        'ERR_SHAPE',
        /^tokenWeights: /,
      ],
      [
        'no teacher',
        () => grpoSync(batch, { distillation: {}, backend }),
        'ERR_DTYPE',
        /^teacherLogProbs: .*with distillation/,
      ],
      [
        'a teacher without',
        () => grpoSync({ ...batch, teacherLogProbs: weights(-Infinity) }, { distillation: {}, backend }),
        'ERR_NONFINITE',
        /^teacherLogProbs: /,
      ],
      [
        'coef',
        () => grpoSync({ ...batch, teacherLogProbs }, { distillation: { coef: -1 }, backend }),
        'ERR_RANGE',
        /^distillation\.coef: /,
      ],
      [
        'discriminative, mask',
        () => grpoSync(batch, { form: 'discriminative', offPolicyMask: { delta: 1 }, backend }),
        'ERR_RANGE',
        /^offPolicyMask: expected none/,
      ],
      [
        'discriminative, quantile',
        () => grpoSync(batch, { form: 'discriminative', entropyQuantile: 0, backend }),
        'ERR_RANGE',
        /^entropyQuantile: expected none/,
      ],
      [
        'discriminative, teacher',
        () => grpoSync({ ...batch, teacherLogProbs }, { form: 'discriminative', distillation: {}, backend }),
        'ERR_RANGE',
        /^distillation: expected none/,
      ],
      [
        'discriminative, weights',
        () => grpoSync({ ...batch, tokenWeights: weights(1) }, { form: 'discriminative', backend }),
        'ERR_RANGE',
        /^tokenWeights: expected none/,
      ],
    ])('%s', (_name, run, code, message) => {
      expect(run).toThrow(rlvrError(code, message));
    });
  });
});
