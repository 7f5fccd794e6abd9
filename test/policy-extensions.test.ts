// What else the advantage-weighted losses take: KL, entropy, rollout correction, dual clip, delta, advantages per
// token. Each against the oracle, which writes the loss of a token as its authors do.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  advantageWeighted,
  dapoSync,
  defineLoss,
  gmpoSync,
  grpoSync,
  gspoSync,
  type RolloutCorrection,
  sapoSync,
  vespoSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { expectGradient } from './support/losses.js';
import {
  AGGREGATIONS,
  type AnyOptions,
  byName,
  FAMILIES,
  fromLogProbs,
  fullBatch,
  type NamedLoss,
  POLICY_LOSSES,
  perTokenAdvantages,
} from './support/named-losses.js';
import { oracleAdvantages, policyOracle } from './support/oracle.js';
import { spreadOver } from './support/packed.js';

const reinforce = defineLoss({ score: 'logLikelihood', objective: advantageWeighted });

const onGammaWeights = defineLoss({ score: { kind: 'gammaWeight' }, objective: advantageWeighted });

const LOSSES: NamedLoss[] = [
  ...POLICY_LOSSES.filter(({ name }) => name !== 'dapo' && name !== 'bnpo'), // grpo with other options
  { name: 'reinforce', over: 'advantages', options: {}, run: reinforce.run, runSync: reinforce.runSync },
];

const CORRECTIONS: fc.Arbitrary<RolloutCorrection> = fc.record(
  {
    level: fc.constantFrom('token', 'sequence'),
    mode: fc.constantFrom('truncate', 'mask'),
    min: fc.constantFrom(0, 0.6),
    max: fc.constantFrom(1.2, 3),
  },
  { requiredKeys: [] },
);

/** Any of them together. */
const EXTENSIONS = fc.record({
  kl: fc.option(
    fc.record({
      klCoef: fc.constant(0.3),
      klEstimator: fc.constantFrom('k1', 'k2', 'k3', 'k1+', 'k3+', 'abs'),
      klReference: fc.constantFrom('ref', 'old'),
      klMax: fc.constantFrom(0.05, Infinity),
      klWeight: fc.constantFrom('none', 'ratio'),
    }),
  ),
  rolloutCorrection: fc.option(CORRECTIONS, { nil: undefined }),
  aggregation: fc.constantFrom(...AGGREGATIONS),
  estimator: fc.constantFrom('grpo', 'drGrpo', 'rloo', 'opo'),
  entropy: fc.boolean(),
  perToken: fc.boolean(),
  onPolicy: fc.boolean(),
});

type Drawn = typeof EXTENSIONS extends fc.Arbitrary<infer D> ? D : never;

function optionsOf({ name, options }: NamedLoss, drawn: Drawn): AnyOptions {
  const { kl, rolloutCorrection, aggregation, estimator } = drawn;
  const correction =
    name === 'gmpo' && rolloutCorrection ? { ...rolloutCorrection, level: 'sequence' } : rolloutCorrection;
  return { ...options, ...kl, ...aggregation, advantage: { estimator }, rolloutCorrection: correction } as AnyOptions;
}

function batchOf(seed: number, { name }: NamedLoss, { perToken, onPolicy }: Drawn) {
  const batch = fullBatch(seed, { vocab: 3 });
  return {
    ...batch,
    oldLogProbs: onPolicy ? undefined : batch.oldLogProbs,
    ...(perToken && name !== 'gmpo' && { advantages: perTokenAdvantages(seed, batch) }),
  };
}

describeBackends('additions', (backend) => {
  describe.each(byName(LOSSES))('%s', (name, loss) => {
    test('any of them together, from log-probs: the published loss', () => {
      fc.assert(
        fc.property(fc.integer(), EXTENSIONS, (seed, drawn) => {
          const batch = fromLogProbs(batchOf(seed, loss, drawn));
          const options = optionsOf(loss, drawn);
          const result = loss.runSync(batch, { ...options, backend });
          const expected = policyOracle(batch, FAMILIES[name], options);
          expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
          expectClose(result.gradLogProbs, expected.gradient, 1e-11);
        }),
        { numRuns: 50 },
      );
    });

    test('any of them together, from logits, with entropy', () => {
      fc.assert(
        fc.property(fc.integer(), EXTENSIONS, (seed, drawn) => {
          const batch = batchOf(seed, loss, drawn);
          const options = { ...optionsOf(loss, drawn), ...(drawn.entropy && { entropyCoef: 0.2 }) };
          const result = loss.runSync(batch, { ...options, backend });
          const expected = policyOracle(batch, FAMILIES[name], options);
          expectCloseNumber(result.loss, expected.loss, 2e-6, 1);
          expectClose(result.gradLogits, expected.gradient, 2e-6);
        }),
        { numRuns: 15 },
      );
    });
  });

  describe.each<[name: string, options: AnyOptions]>([
    ['KL k1', { klCoef: 0.3, klEstimator: 'k1' }],
    ['KL k2', { klCoef: 0.3, klEstimator: 'k2', aggregation: 'token-mean' }],
    ['KL k3', { klCoef: 0.3 }],
    ['KL abs', { klCoef: 0.3, klEstimator: 'abs' }],
    ['KL k3, at most 0.1', { klCoef: 0.3, klMax: 0.1 }],
    ['KL k3 times the ratio', { klCoef: 0.3, klWeight: 'ratio' }],
    ['KL k2 to the old policy', { klCoef: 0.3, klEstimator: 'k2', klReference: 'old' }],
    ['entropy', { entropyCoef: 0.1 }],
    ['entropy and KL, tokens alike', { entropyCoef: 0.1, klCoef: 0.2, aggregation: 'token-mean', temperature: 1.3 }],
    ['rollout correction per token', { rolloutCorrection: { max: 1.1 } }],
    ['rollout correction per sequence', { rolloutCorrection: { level: 'sequence', mode: 'mask', max: 1.5 } }],
    ['dual clip', { dualClip: 1.05 }],
    ['delta', { delta: 1.1 }],
  ])('%s: finite differences down to the logits', (name, options) => {
    // GMPO has no token terms, and GSPO's token form stops a gradient.
    const clipped = name === 'dual clip' || name === 'delta';
    const names = clipped ? ['grpo'] : name.endsWith('per token') ? ['grpo', 'sapo'] : ['grpo', 'gspo', 'gmpo', 'sapo'];
    test.each(names)('%s', (lossName) => {
      const loss = LOSSES.find((candidate) => candidate.name === lossName)!;
      const all = { ...loss.options, ...options };
      expectGradient(backend, fullBatch(3), (moved, on) => loss.runSync(moved, { ...all, backend: on }));
    });
  });

  describe('bounds of the clipped ratio', () => {
    const far = (seed: number) => {
      const batch = fromLogProbs(fullBatch(seed, { vocab: 2, groups: 4 }));
      const random = new Random(seed + 5);
      return { ...batch, oldLogProbs: batch.logProbs.map((l) => l + 0.9 * random.normal()) };
    };

    test.each<[name: string, options: AnyOptions]>([
      ["dual clip (verl's clip_ratio_c)", { dualClip: 1.5 }],
      ['dual clip at 1', { dualClip: 1 }],
      ["TRL's delta beyond the clip", { delta: 1.6 }],
      ["TRL's delta inside the clip", { delta: 1.1 }],
      ["TRL's delta below 1", { delta: 0.9 }],
      ["TRL's delta below the clip", { delta: 0.5 }],
      ['both', { delta: 1.6, dualClip: 1.4 }],
      ['both, the other way round', { delta: 1.4, dualClip: 1.6 }],
    ])('%s', (_name, options) => {
      fc.assert(
        fc.property(fc.integer(), fc.boolean(), (seed, perToken) => {
          const batch = {
            ...far(seed),
            ...(perToken && { advantages: perTokenAdvantages(seed, fullBatch(seed, { vocab: 2, groups: 4 })) }),
          };
          const expected = policyOracle(batch, 'clipped', { ...options, epsilonHigh: 0.28, aggregation: 'token-mean' });
          const result = dapoSync(batch, { ...options, backend });
          expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
          expectClose(result.gradLogProbs, expected.gradient, 1e-11);
        }),
        { numRuns: 30 },
      );
    });

    test('in numbers: ratio 4, A = -1, c = 3', () => {
      const batch = {
        logProbs: Float64Array.of(Math.log(0.8), Math.log(0.8)),
        oldLogProbs: Float64Array.of(Math.log(0.2), Math.log(0.2)),
        cuSeqlens: Int32Array.of(0, 1, 2),
        cuGroups: Int32Array.of(0, 2),
        rewards: Float32Array.of(0, 0),
        advantages: Float64Array.of(-1, 1),
      };
      const plain = grpoSync(batch, { backend });
      expectCloseNumber(plain.loss, (4 - 1.2) / 2, 1e-14);
      const capped = grpoSync(batch, { dualClip: 3, backend });
      expectCloseNumber(capped.loss, (3 - 1.2) / 2, 1e-14);
      expect(Array.from(capped.gradLogProbs)).toEqual([0, 0]);
      expect(capped.metrics.clipFractionHigh).toBe(1);
      expect(plain.metrics.clipFractionHigh).toBe(0.5);
      expectCloseNumber(grpoSync(batch, { delta: 2, backend }).loss, (2 - 1.2) / 2, 1e-14);
      expectCloseNumber(grpoSync(batch, { delta: 1.1, backend }).loss, (1.2 - 1.1) / 2, 1e-13);
    });

    test('unset they change nothing', () => {
      const batch = far(4);
      const plain = grpoSync(batch, { backend });
      expect(grpoSync(batch, { dualClip: undefined, delta: undefined, backend })).toEqual(plain);
      expect(grpoSync(batch, { dualClip: 1e300, delta: 1e300, backend })).toEqual(plain);
    });
  });

  describe('advantages per token', () => {
    test.each(byName(LOSSES.filter(({ name }) => name !== 'gmpo')))(
      '%s: equal ones are one per sequence',
      (_name, loss) => {
        const batch = fromLogProbs(fullBatch(9, { groups: 4 }));
        const perSequence = oracleAdvantages(batch);
        const advantages = spreadOver(batch, perSequence);
        const whole = loss.runSync(
          { ...batch, advantages: Float64Array.from(perSequence) },
          { ...loss.options, backend },
        );
        const spread = loss.runSync({ ...batch, advantages }, { ...loss.options, backend });
        expectCloseNumber(spread.loss, whole.loss, 1e-13, 1e-2);
        expectClose(spread.gradLogProbs, whole.gradLogProbs, 1e-13);
        expect(spread.advantages).toEqual(advantages.map((A, t) => (batch.mask[t] ? A : 0)));
        expect(spread.metrics.clipFraction).toBe(whole.metrics.clipFraction);
      },
    );

    test('as many tokens as sequences: they are per sequence', () => {
      const batch = {
        logProbs: Float64Array.of(-1, -2, -3),
        cuSeqlens: Int32Array.of(0, 2, 2, 3),
        cuGroups: Int32Array.of(0, 3),
        rewards: Float32Array.of(1, 0, 1),
        advantages: Float64Array.of(1, 10, 100),
      };
      const { gradLogProbs } = grpoSync(batch, { backend });
      expectClose(gradLogProbs, [-1 / 6, -1 / 6, -100 / 3], 1e-14);
    });

    test('masked ones may hold anything', () => {
      const batch = fullBatch(11, { groups: 4 });
      const advantages = perTokenAdvantages(11, batch);
      const spoilt = advantages.map((A, t) => (batch.mask[t] ? A : NaN));
      const expected = grpoSync({ ...batch, advantages }, { backend });
      expect(grpoSync({ ...batch, advantages: spoilt }, { backend })).toEqual(expected);
      const first = batch.mask.indexOf(1);
      const bad = advantages.map((A, t) => (t === first ? Infinity : A));
      expect(() => grpoSync({ ...batch, advantages: bad }, { backend })).toThrow(
        rlvrError('ERR_NONFINITE', `Infinity at index ${first}`),
      );
    });
  });

  describe('refused, by name', () => {
    const batch = fullBatch(2);
    const { refLogProbs: _ref, ...withoutReference } = batch;
    const { rolloutLogProbs: _rollout, ...withoutRollout } = batch;
    const advantages = perTokenAdvantages(2, batch);

    test.each<[name: string, run: () => unknown, code: string, message: string]>([
      [
        'gmpo, advantages per token',
        () => gmpoSync({ ...batch, advantages }, { backend }),
        'ERR_RANGE',
        'advantages: expected weights per sequence',
      ],
      [
        'gmpo, correction per token',
        () => gmpoSync(batch, { rolloutCorrection: {}, backend }),
        'ERR_RANGE',
        'rolloutCorrection: expected weights per sequence',
      ],
      [
        'KL without a reference',
        () => gspoSync(withoutReference, { klCoef: 0.1, backend }),
        'ERR_DTYPE',
        'refLogProbs: expected',
      ],
      ['negative klCoef', () => gspoSync(batch, { klCoef: -0.1, backend }), 'ERR_RANGE', 'klCoef: expected'],
      [
        'unknown klEstimator',
        () => gspoSync(batch, { klEstimator: 'k4' as never, backend }),
        'ERR_RANGE',
        'klEstimator: expected',
      ],
      [
        'unknown klWeight',
        () => gspoSync(batch, { klWeight: 'sequence' as never, backend }),
        'ERR_RANGE',
        'klWeight: expected',
      ],
      [
        'unknown klReference',
        () => gspoSync(batch, { klReference: 'rollout' as never, backend }),
        'ERR_RANGE',
        'klReference: expected',
      ],
      ['a cap of 0', () => gspoSync(batch, { klMax: 0, backend }), 'ERR_RANGE', 'klMax: expected'],
      [
        'advantages per token of the ratio of a sum',
        () => grpoSync({ ...batch, advantages }, { ratioLevel: 'sum', backend }),
        'ERR_RANGE',
        "advantages: expected weights per sequence with ratioLevel 'sum'",
      ],
      [
        'correction per token of the ratio of a sum',
        () => sapoSync(batch, { ratioLevel: 'sum', rolloutCorrection: {}, backend }),
        'ERR_RANGE',
        "rolloutCorrection: expected weights per sequence with ratioLevel 'sum'",
      ],
      [
        "another correction than VESPO's own",
        () => vespoSync(batch, { rolloutCorrection: {}, backend } as never),
        'ERR_OPTION',
        'rolloutCorrection: no such option of vespo',
      ],
      [
        "another correction than VESPO's own, in a loss on its score",
        () => onGammaWeights.runSync(batch, { rolloutCorrection: {}, backend }),
        'ERR_RANGE',
        'rolloutCorrection: expected none with gammaWeight',
      ],
      [
        'entropy of log-probs',
        () => grpoSync(fromLogProbs(batch), { entropyCoef: 0.1, backend }),
        'ERR_RANGE',
        'entropyCoef: expected 0',
      ],
      ['NaN entropyCoef', () => grpoSync(batch, { entropyCoef: NaN, backend }), 'ERR_RANGE', 'entropyCoef: expected'],
      [
        'correction without rollouts',
        () => dapoSync(withoutRollout, { rolloutCorrection: {}, backend }),
        'ERR_DTYPE',
        'rolloutLogProbs: expected',
      ],
      [
        'unknown level',
        () => dapoSync(batch, { rolloutCorrection: { level: 'group' as never }, backend }),
        'ERR_RANGE',
        'rolloutCorrection.level: expected',
      ],
      [
        'unknown mode',
        () => dapoSync(batch, { rolloutCorrection: { mode: 'clip' as never }, backend }),
        'ERR_RANGE',
        'rolloutCorrection.mode: expected',
      ],
      [
        'max below min',
        () => dapoSync(batch, { rolloutCorrection: { min: 2, max: 1 }, backend }),
        'ERR_RANGE',
        'rolloutCorrection.max: expected',
      ],
      [
        'correction of another type',
        () => dapoSync(batch, { rolloutCorrection: true as never, backend }),
        'ERR_DTYPE',
        'rolloutCorrection: expected an object',
      ],
      [
        'advantages of another length',
        () => dapoSync({ ...batch, advantages: new Float64Array(3) }, { backend }),
        'ERR_SHAPE',
        'advantages: expected length',
      ],
      [
        'discriminative with entropy',
        () => grpoSync(batch, { form: 'discriminative', entropyCoef: 0.1, backend }),
        'ERR_RANGE',
        'entropyCoef: expected none',
      ],
      [
        'discriminative with aggregation',
        () => grpoSync(batch, { form: 'discriminative', aggregation: 'token-mean', backend }),
        'ERR_RANGE',
        'aggregation: expected none',
      ],
      [
        'discriminative with advantage',
        () => grpoSync(batch, { form: 'discriminative', advantage: {}, backend }),
        'ERR_RANGE',
        'advantage: expected none',
      ],
      [
        'discriminative with maxLength',
        () => grpoSync(batch, { form: 'discriminative', maxLength: 8, backend }),
        'ERR_RANGE',
        'maxLength: expected none',
      ],
      [
        'discriminative with correction',
        () => grpoSync(batch, { form: 'discriminative', rolloutCorrection: {}, backend }),
        'ERR_RANGE',
        'rolloutCorrection: expected none',
      ],
    ])('%s', (_name, run, code, message) => {
      expect(run).toThrow(rlvrError(code, message));
    });
  });
});
