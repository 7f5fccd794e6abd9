// What rollout correction takes besides weights: a mean of 1, masks of sequences, rejection, weights of the caller's own; and the two
// ways to weight the entropy bonus.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  gmpoSync,
  grpoSync,
  gspoSync,
  type Metrics,
  type RolloutCorrection,
  type RolloutRejection,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { expectGradient } from './support/losses.js';
import { type AnyOptions, byName, fromLogProbs, fullBatch, POLICY_LOSSES } from './support/named-losses.js';
import { tokensOf } from './support/packed.js';

const LOSSES = POLICY_LOSSES.filter(
  ({ name }) => !['dapo', 'bnpo', 'vespo'].includes(name), // grpo with other options; VESPO has a correction of its own
);
const given = (seed: number) => fromLogProbs(fullBatch(seed, { vocab: 3, groups: 4 }));
type Given = ReturnType<typeof given>;

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
const gap = (batch: Given, t: number) => batch.oldLogProbs[t] - batch.rolloutLogProbs[t];
const sequencesOf = (batch: Given) => Array.from(batch.rewards, (_, i) => tokensOf(batch, i));

/** [T] the weights of these options, as plain loops have them. */
function weightsOf(batch: Given, { level = 'token', min = 0, max = 2, normalize, sequenceMask }: RolloutCorrection) {
  const weights = new Float64Array(batch.mask.length);
  const inside = (rho: number, low = 0, high = Infinity) => (rho >= low && rho <= high ? 1 : 0);
  for (const tokens of sequencesOf(batch)) {
    const whole = Math.exp(sum(tokens.map((t) => gap(batch, t))));
    for (const t of tokens) {
      const rho = level === 'token' ? Math.exp(gap(batch, t)) : level === 'none' ? 1 : whole;
      weights[t] = level === 'none' ? 1 : Math.min(Math.max(rho, min), max);
    }
  }
  const counted = sequencesOf(batch).flat();
  const mean = sum(counted.map((t) => weights[t])) / counted.length;
  for (const tokens of sequencesOf(batch)) {
    const whole = Math.exp(sum(tokens.map((t) => gap(batch, t))));
    for (const t of tokens) {
      if (normalize && level !== 'none') weights[t] /= mean;
      if (sequenceMask) weights[t] *= inside(whole, sequenceMask.min, sequenceMask.max);
    }
  }
  return weights;
}

/** [T] the mask after rejection. */
function maskAfter(batch: Given, { by, level, min = -Infinity, max = Infinity }: RolloutRejection) {
  const estimate = (t: number) => (by === 'k1' ? -gap(batch, t) : Math.exp(gap(batch, t)) - 1 - gap(batch, t));
  const mask = new Uint8Array(batch.mask.length);
  for (const tokens of sequencesOf(batch)) {
    const all = tokens.map(estimate);
    const whole = level === 'sequence-mean' ? sum(all) / all.length : Math.max(...all);
    tokens.forEach((t, k) => {
      const value = level === 'token' ? all[k] : whole;
      mask[t] = value >= min && value <= max ? 1 : 0;
    });
  }
  return mask;
}

const CORRECTIONS: RolloutCorrection[] = [
  { normalize: true },
  { normalize: true, level: 'sequence', max: 1.3 },
  { sequenceMask: { min: 0.6, max: 1.5 } },
  { sequenceMask: { max: 1.1 }, normalize: true, max: 1.2 },
  { level: 'none', sequenceMask: { min: 0.8 } },
  { level: 'none' },
];

const REJECTIONS: RolloutRejection[] = [
  { by: 'k1', level: 'token', min: -0.3, max: 0.3 },
  { by: 'k3', level: 'token', max: 0.1 },
  { by: 'k1', level: 'sequence-mean', min: -0.1, max: 0.2 },
  { by: 'k3', level: 'sequence-mean', max: 0.08 },
  { by: 'k3', level: 'sequence-max', max: 0.2 },
  { by: 'k1', level: 'sequence-max', min: 0.1 },
];

/** A result without the metrics of what was rejected. */
function unmeasured<R extends { metrics: object }>({ metrics, ...result }: R) {
  const { rejectedFraction, rejectedSequenceFraction, ...others } = metrics as Partial<Metrics>;
  expect([rejectedFraction, rejectedSequenceFraction]).toEqual([expect.any(Number), expect.any(Number)]);
  return { ...result, metrics: others };
}

describeBackends('rollout correction', (backend) => {
  describe.each(byName(LOSSES))('%s', (name, loss) => {
    test.each(CORRECTIONS)('%o: as weights per token', (rolloutCorrection) => {
      if (name === 'gmpo') return; // has no weights per token
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const batch = given(seed);
          const tokenWeights = weightsOf(batch, rolloutCorrection);
          const result = loss.runSync(batch, { ...loss.options, rolloutCorrection, backend });
          const expected = loss.runSync({ ...batch, tokenWeights }, { ...loss.options, backend });
          expectCloseNumber(result.loss, expected.loss, 1e-12, 1e-1);
          expectClose([1, ...result.gradLogProbs], [1, ...expected.gradLogProbs], 1e-12);
        }),
        { numRuns: 12 },
      );
    });

    test.each(REJECTIONS)('%o: as a mask', (reject) => {
      fc.assert(
        fc.property(fc.integer(), fc.boolean(), (seed, weighted) => {
          const batch = given(seed);
          const { level } = loss.name === 'gmpo' ? ({ level: 'sequence' } as const) : ({ level: 'token' } as const);
          const rest: RolloutCorrection = weighted ? { level, normalize: true } : { level: 'none' };
          const own: AnyOptions = { ...loss.options, klCoef: 0.1, aggregation: 'token-mean', backend };
          const result = loss.runSync(batch, { ...own, rolloutCorrection: { ...rest, reject } });
          const masked = { ...batch, mask: maskAfter(batch, reject) };
          expect(unmeasured(result)).toEqual(loss.runSync(masked, { ...own, rolloutCorrection: rest }));
        }),
        { numRuns: 12 },
      );
    });
  });

  test('gmpo: weights and masks of sequences', () => {
    const batch = given(4);
    const advantages = gmpoSync(batch, { backend }).advantages!;
    for (const rolloutCorrection of CORRECTIONS.filter(({ level = 'token' }) => level !== 'token')) {
      const weights = weightsOf(batch, rolloutCorrection);
      const own = advantages.map((A, i) => A * (weights[tokensOf(batch, i)[0]] ?? 0));
      const expected = gmpoSync({ ...batch, advantages: own }, { backend });
      const result = gmpoSync(batch, { rolloutCorrection, backend });
      expectCloseNumber(result.loss, expected.loss, 1e-12, 1e-1);
      expectClose(result.gradLogProbs, expected.gradLogProbs, 1e-12);
    }
  });

  test('from logits: rows that are rejected are not read, in one pass and in two', () => {
    const batch = fullBatch(6, { groups: 4 });
    const reject = { by: 'k3', level: 'token', max: 0.05 } as const;
    const mask = maskAfter(fromLogProbs(batch), reject);
    const logits = batch.logits.map((z, k) => (mask[Math.floor(k / 5)] ? z : Number.NaN));
    for (const more of [{}, { entropyCoef: 0.1 }, { onNonFinite: 'skip' }, { gradient: { deferred: true } }] as const) {
      const own = { ...more, backend };
      const expected = grpoSync({ ...batch, mask }, { ...own, rolloutCorrection: {} });
      const result = grpoSync({ ...batch, logits }, { ...own, rolloutCorrection: { reject } });
      expect(unmeasured(result)).toEqual(expected);
    }
    const { hidden, weight } = {
      hidden: Float32Array.from(batch.targets, Math.cos),
      weight: Float32Array.of(1, -1, 2, 0, 0.5),
    };
    if (backend === 'cuda') return; // no hidden states there
    const { logits: _logits, ...rest } = batch;
    const fromHidden = {
      ...rest,
      hidden: { data: hidden, shape: [hidden.length, 1] },
      weight: { data: weight, shape: [5, 1] },
    } as const;
    const expected = grpoSync({ ...fromHidden, mask }, { rolloutCorrection: {}, backend });
    expect(unmeasured(grpoSync(fromHidden, { rolloutCorrection: { reject }, backend }))).toEqual(expected);
  });

  test('everything rejected, or nothing known: loss 0, or as without', () => {
    const batch = given(3);
    const all = { reject: { by: 'k3', level: 'token', min: 1e3 } } as const;
    const { loss, gradLogProbs, metrics } = grpoSync(batch, { rolloutCorrection: all, backend });
    expect([loss, metrics.tokens]).toEqual([0, 0]);
    expect(gradLogProbs).toEqual(new Float64Array(batch.mask.length));
    const rolloutLogProbs = batch.rolloutLogProbs.map(() => Number.NaN);
    const unknown = { missing: 'one', normalize: true, reject: { by: 'k1', level: 'sequence-max', max: 0 } } as const;
    const plain = grpoSync(batch, { backend });
    expectCloseNumber(
      grpoSync({ ...batch, rolloutLogProbs }, { rolloutCorrection: unknown, backend }).loss,
      plain.loss,
      1e-14,
    );
    const dropped = { mode: 'mask', min: 1e3, max: 1e4, normalize: true } as const; // weights of a mean of 0
    expect(grpoSync(batch, { rolloutCorrection: dropped, backend }).loss).toBe(0);
  });

  test('rolloutWeights: the weights themselves; on-policy, normalized too', () => {
    const batch = given(7);
    const rolloutWeights = weightsOf(batch, {}).map((weight, t) => (batch.mask[t] ? weight : Number.NaN));
    const expected = grpoSync(batch, { rolloutCorrection: {}, backend });
    const result = grpoSync({ ...batch, rolloutWeights }, { backend });
    expectCloseNumber(result.loss, expected.loss, 1e-13);
    expectClose(result.gradLogProbs, expected.gradLogProbs, 1e-13);
    const { oldLogProbs: _old, ...onPolicy } = batch;
    const passed = { ...batch, oldLogProbs: batch.logProbs };
    for (const rolloutCorrection of CORRECTIONS) {
      const options = { rolloutCorrection, backend };
      expectCloseNumber(grpoSync(onPolicy, options).loss, grpoSync(passed, options).loss, 1e-13, 1e-2);
    }
  });

  test.each([
    ['normalize', { rolloutCorrection: { normalize: true } }],
    ['a sequence mask', { rolloutCorrection: { sequenceMask: { max: 1.2 } } }],
    [
      'rejection',
      { rolloutCorrection: { level: 'none', reject: { by: 'k3', level: 'token', max: 0.05 } }, klCoef: 0.1 },
    ],
    ['the entropy of all tokens', { entropyCoef: 0.2, entropyAggregation: 'token-mean' }],
  ] as [string, AnyOptions][])('%s: finite differences down to the logits', (_name, options) => {
    expectGradient(backend, fullBatch(3), (moved, on) => grpoSync(moved, { ...options, backend: on }));
  });

  describe('refused, by name', () => {
    const batch = fullBatch(2);
    const { oldLogProbs: _old, ...onPolicy } = batch;
    const reject = { by: 'k1', level: 'token', max: 1 } as const;
    const rolloutWeights = new Float64Array(batch.mask.length).fill(1);
    const correction = (rolloutCorrection: object) => () => grpoSync(batch, { rolloutCorrection, backend });
    test.each<[name: string, run: () => unknown, code: string, message: RegExp]>([
      [
        'normalize',
        correction({ normalize: 1 }),
        'ERR_RANGE',
        /^rolloutCorrection\.normalize: expected true or false, got 1/,
      ],
      ['a level', correction({ level: 'group' }), 'ERR_RANGE', /^rolloutCorrection\.level: expected .*'none'/],
      [
        'a sequence mask of sequence weights',
        correction({ level: 'sequence', sequenceMask: {} }),
        'ERR_RANGE',
        /^rolloutCorrection\.sequenceMask: expected none with level 'sequence'/,
      ],
      [
        'its bounds',
        correction({ sequenceMask: { min: 2, max: 1 } }),
        'ERR_RANGE',
        /^rolloutCorrection\.sequenceMask\.max: .*at least 2/,
      ],
      [
        'its type',
        correction({ sequenceMask: 2 }),
        'ERR_DTYPE',
        /^rolloutCorrection\.sequenceMask: expected an object/,
      ],
      [
        'an estimate',
        correction({ reject: { ...reject, by: 'k2' } }),
        'ERR_RANGE',
        /^rolloutCorrection\.reject\.by: expected 'k1' or 'k3'/,
      ],
      [
        'no estimate',
        correction({ reject: { level: 'token', max: 1 } }),
        'ERR_RANGE',
        /^rolloutCorrection\.reject\.by: /,
      ],
      [
        'a level of rejection',
        correction({ reject: { ...reject, level: 'sequence' } }),
        'ERR_RANGE',
        /^rolloutCorrection\.reject\.level: /,
      ],
      [
        'no bound',
        correction({ reject: { by: 'k1', level: 'token' } }),
        'ERR_RANGE',
        /^rolloutCorrection\.reject: expected min or max, got neither/,
      ],
      [
        'bounds',
        correction({ reject: { ...reject, min: 2 } }),
        'ERR_RANGE',
        /^rolloutCorrection\.reject\.max: .*at least 2/,
      ],
      [
        'on-policy',
        () => grpoSync(onPolicy, { rolloutCorrection: { reject }, backend }),
        'ERR_DTYPE',
        /^oldLogProbs: expected .* with rolloutCorrection\.reject/,
      ],
      [
        'both',
        () => grpoSync({ ...batch, rolloutWeights }, { rolloutCorrection: {}, backend }),
        'ERR_RANGE',
        /^rolloutCorrection: expected none beside rolloutWeights/,
      ],
      [
        'weights below 0',
        () => grpoSync({ ...batch, rolloutWeights: rolloutWeights.map(() => -1) }, { backend }),
        'ERR_RANGE',
        /^rolloutWeights: expected weights of at least 0/,
      ],
      [
        'gmpo, weights',
        () => gmpoSync({ ...batch, rolloutWeights }, { backend }),
        'ERR_RANGE',
        /^rolloutWeights: expected weights per sequence/,
      ],
      [
        'gmpo, none',
        () => gmpoSync(batch, { rolloutCorrection: { normalize: true }, backend }),
        'ERR_RANGE',
        /^rolloutCorrection: expected weights per sequence/,
      ],
      [
        'discriminative',
        () => grpoSync({ ...batch, rolloutWeights }, { form: 'discriminative', backend }),
        'ERR_RANGE',
        /^rolloutWeights: expected none/,
      ],
      [
        'an aggregation',
        () => grpoSync(batch, { entropyAggregation: 'mean' as never, backend }),
        'ERR_RANGE',
        /^entropyAggregation: expected 'policy' or 'token-mean'/,
      ],
      [
        'its normalizer',
        () => grpoSync(batch, { entropyNormalizer: 3, backend }),
        'ERR_RANGE',
        /^entropyNormalizer: expected none but/,
      ],
      [
        'no normalizer',
        () => grpoSync(batch, { normalizer: 3, entropyAggregation: 'token-mean', backend }),
        'ERR_RANGE',
        /^entropyNormalizer: expected a number above 0 with normalizer/,
      ],
    ])('%s', (_name, run, code, message) => {
      expect(run).toThrow(rlvrError(code, message));
    });
  });
});

describeBackends('the entropy bonus', (backend) => {
  test.each([grpoSync, gspoSync] as (typeof grpoSync)[])(
    'as a mean over tokens, whatever the policy term is',
    (runSync) => {
      const batch = fullBatch(5);
      const at = (options: AnyOptions) => runSync(batch, { ...options, backend });
      const bonus = (options: AnyOptions, base: AnyOptions) => {
        const [own, none] = [at(options), at(base)];
        return { loss: own.loss - none.loss, gradient: own.gradLogits.map((value, k) => value - none.gradLogits[k]) };
      };
      const tokenMean = { aggregation: 'token-mean' } as const;
      const expected = bonus({ ...tokenMean, entropyCoef: 0.3 }, tokenMean);
      const result = bonus({ entropyCoef: 0.3, entropyAggregation: 'token-mean' }, {});
      expectCloseNumber(result.loss, expected.loss, 1e-6);
      expectClose(result.gradient, expected.gradient, 1e-5);
      const entropyNormalizer = 2 * at({}).metrics.tokens;
      const half = bonus({ entropyCoef: 0.3, entropyAggregation: 'token-mean', entropyNormalizer }, {});
      expectCloseNumber(2 * half.loss, expected.loss, 1e-6);
      const whole = { ...tokenMean, normalizer: entropyNormalizer };
      const same = bonus({ ...whole, entropyCoef: 0.3, entropyAggregation: 'token-mean' }, whole);
      expectCloseNumber(2 * same.loss, expected.loss, 1e-6);
      expect(at({ entropyCoef: 0.3, entropyAggregation: 'policy' })).toEqual(at({ entropyCoef: 0.3 }));
    },
  );
});
