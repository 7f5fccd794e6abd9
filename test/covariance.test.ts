// Clip-Cov and KL-Cov against plain loops over the tokens, as arXiv 2505.22617 and verl have them: which tokens, and what of them.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { dapoSync, fromDense, gmpoSync, grpo, grpoSync, gspoSync, sapoSync } from '../lib/index.js';
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
  POLICY_LOSSES,
  perTokenAdvantages,
} from './support/named-losses.js';
import { oracleAdvantages, policyOracle } from './support/oracle.js';
import { spreadOver, tokenCountsOf, tokensOf } from './support/packed.js';

const LOSSES = POLICY_LOSSES.filter(({ name }) => name !== 'dapo' && name !== 'bnpo') // grpo with other options
  .map((loss) => ({ ...loss, options: { ...loss.options, advantage: { estimator: 'grpo' } } as AnyOptions }));
const OF_TOKENS = LOSSES.filter(({ name }) => name !== 'gmpo');

const given = (seed: number) => fromLogProbs(fullBatch(seed, { vocab: 3, groups: 4 }));
type Given = ReturnType<typeof given>;

const mean = (values: readonly number[]) => values.reduce((all, value) => all + value, 0) / values.length;
const counted = ({ mask }: { mask: Uint8Array }) => Array.from(mask).flatMap((m, t) => (m ? [t] : []));

/** [T] covariances, of counted tokens. */
function covariances(batch: Given, advantages: ArrayLike<number>): number[] {
  const tokens = counted(batch);
  const [A, logProb] = [mean(tokens.map((t) => advantages[t])), mean(tokens.map((t) => batch.logProbs[t]))];
  return Array.from(batch.mask, (m, t) => (m ? (advantages[t] - A) * (batch.logProbs[t] - logProb) : Number.NaN));
}

/** Two sequences of equal length with the same covariance throughout, 0.5, a little off the old policy. */
function aligned(tokens: number) {
  const sign = Float64Array.from({ length: tokens }, (_, t) => (2 * t < tokens ? 1 : -1));
  const logProbs = sign.map((s) => s / 2 - 1);
  const batch = {
    logProbs,
    oldLogProbs: logProbs.map((logProb) => logProb + 0.05),
    cuSeqlens: Int32Array.of(0, tokens / 2, tokens),
    advantages: Float64Array.of(1, -1),
  };
  return { batch, advantages: sign };
}

/** Tokens with an advantage and no policy term. */
const outOf = (tokenLosses: Float64Array, advantages: ArrayLike<number>, mask?: Uint8Array) =>
  Array.from(tokenLosses).flatMap((loss, t) => (loss === 0 && advantages[t] !== 0 && mask?.[t] !== 0 ? [t] : []));

/** [N] weights of the rollout correction by sequence. */
const rolloutWeights = (batch: Given, max: number) =>
  Array.from(batch.rewards, (_, i) =>
    Math.min(
      Math.exp(tokensOf(batch, i).reduce((sum, t) => sum + batch.oldLogProbs[t] - batch.rolloutLogProbs[t], 0)),
      max,
    ),
  );

/** [T] what KL-Cov adds to the loss of each token, and to its derivative. */
function penalties(
  batch: Given,
  advantages: ArrayLike<number>,
  { ratio, coef }: { ratio: number; coef: number },
  weights: ArrayLike<number>,
) {
  const cov = covariances(batch, advantages);
  const foremost = counted(batch).sort((a, b) => cov[b] - cov[a] || a - b);
  const chosen = new Set(foremost.slice(0, shareOf(ratio, foremost.length)));
  const value = Array.from(batch.mask, () => 0);
  const slope = Array.from(batch.mask, () => 0);
  for (const t of chosen) {
    const d = batch.logProbs[t] - batch.oldLogProbs[t];
    value[t] = coef * weights[t] * Math.abs(d);
    slope[t] = coef * weights[t] * Math.sign(d);
  }
  return { value, slope };
}

/** [T] the share of a token's loss in the loss. */
function shares(batch: Given, { aggregation, maxLength = 1 }: { aggregation: string; maxLength?: number }) {
  const counts = tokenCountsOf(batch);
  const all = counts.reduce((sum, n) => sum + n, 0);
  const own = { 'sequence-mean': (n: number) => n, 'token-mean': () => all / counts.length };
  const divisor = own[aggregation as keyof typeof own] ?? (() => maxLength);
  return spreadOver(
    batch,
    counts.map((n) => 1 / (counts.length * Math.max(divisor(n), 1))),
  );
}

const shareOf = (ratio: number, tokens: number) => (ratio === 0 ? 0 : Math.max(1, Math.trunc(ratio * tokens)));

const EXTRAS = fc.record({
  aggregation: fc.constantFrom(...AGGREGATIONS),
  kl: fc.option(fc.record({ klCoef: fc.constant(0.3) }), { nil: {} }),
  perToken: fc.boolean(),
});

/** A batch, the advantages of its tokens, and the batch's own if they are per token. */
function withAdvantages(seed: number, perToken: boolean) {
  const batch = given(seed);
  if (!perToken) return { batch, all: spreadOver(batch, oracleAdvantages(batch)), own: {} };
  const all = perTokenAdvantages(seed, batch as never);
  return { batch, all, own: { advantages: all } };
}

describeBackends('covariances', (backend) => {
  describe.each(byName(OF_TOKENS))('%s', (name, { options, runSync }) => {
    test('clipCov of all between the bounds', () => {
      fc.assert(
        fc.property(
          fc.integer(),
          EXTRAS,
          fc.constantFrom([-0.1, 0.4], [0, Infinity], [9, 9]),
          (seed, extras, bounds) => {
            const { batch, all, own } = withAdvantages(seed, extras.perToken);
            const [low, high] = bounds;
            const plain = { ...options, ...extras.aggregation } as AnyOptions;
            const { gradient } = policyOracle({ ...batch, advantages: all }, FAMILIES[name], plain);
            const isOut = covariances(batch, all).map((cov, t) => cov > low && cov < high && gradient[t] !== 0);
            const advantages = all.map((A, t) => (isOut[t] ? 0 : A));
            const clipCov = { ratio: 1, low, high };
            const result = runSync({ ...batch, ...own }, { ...plain, ...extras.kl, clipCov, backend });
            const expected = policyOracle({ ...batch, advantages }, FAMILIES[name], { ...plain, ...extras.kl });
            expectCloseNumber(result.loss, expected.loss, 1e-11, 1e-1);
            expectClose(result.gradLogProbs, expected.gradient, 1e-11);
          },
        ),
        { numRuns: 20 },
      );
    });
  });

  test('clipCov of some: as many as it should be, of those it may, by the seed', () => {
    const seeds = fc.record({ batch: fc.integer(), draw: fc.integer({ min: 0, max: 2 ** 32 - 1 }) });
    fc.assert(
      fc.property(seeds, EXTRAS, fc.constantFrom(0, 1e-9, 0.1, 0.3), (seed, extras, ratio) => {
        const { batch, all, own } = withAdvantages(seed.batch, extras.perToken);
        const clipCov = { ratio: ratio as number, low: -0.5, high: 2, seed: seed.draw };
        const full = { ...batch, ...own };
        const drawn = (on: typeof backend, chosen: typeof clipCov = clipCov) =>
          outOf(grpoSync(full, { perToken: true, clipCov: chosen, backend: on }).tokenLosses!, all, batch.mask);
        const out = drawn(backend);
        expect(out).toEqual(drawn('reference'));
        const candidates = drawn(backend, { ...clipCov, ratio: 1 });
        expect(candidates).toEqual(expect.arrayContaining(out));
        // Tokens whose advantage is 0 may be drawn too, and cannot be told.
        const most = Math.min(shareOf(ratio, counted(batch).length), candidates.length);
        const least = all.some((A, t) => batch.mask[t] && A === 0) ? 0 : most;
        expect(out.length).toBeLessThanOrEqual(most);
        expect(out.length).toBeGreaterThanOrEqual(least);
      }),
      { numRuns: 40 },
    );
  });

  test('clipCov: the same tokens for a seed for ever, and all of them in the end', () => {
    const { batch, advantages } = aligned(24);
    const drawn = (seed: number) =>
      outOf(
        grpoSync(batch, { perToken: true, clipCov: { ratio: 0.125, low: 0, seed }, backend }).tokenLosses!,
        advantages,
      );
    expect([0, 1, 2 ** 32 - 1].map(drawn)).toEqual([
      [3, 8, 16],
      [6, 11, 15],
      [4, 16, 17],
    ]);
    const times = new Array<number>(24).fill(0);
    for (let seed = 0; seed < 400; seed++) for (const t of drawn(seed)) times[t]++;
    // Each of 24 is one of 3 in a draw of 400: 50 times, with a standard deviation below 7.
    expect(Math.min(...times)).toBeGreaterThan(50 - 4 * 7);
    expect(Math.max(...times)).toBeLessThan(50 + 4 * 7);
  });

  describe.each(byName(LOSSES))('%s', (name, { options, runSync }) => {
    test('klCov: |logProbs - oldLogProbs| of the foremost, with all weights but the advantages', () => {
      fc.assert(
        fc.property(fc.integer(), EXTRAS, fc.constantFrom(0, 1e-9, 0.2, 1), (seed, extras, ratio) => {
          const { batch, all, own } = withAdvantages(seed, extras.perToken && name !== 'gmpo');
          const random = new Random(seed + 3);
          const tokenWeights = Float64Array.from(batch.mask, () => Math.floor(3 * random.uniform()) / 2);
          const full = { ...batch, ...own, ...(name !== 'gmpo' && { tokenWeights }) };
          const correction = { level: 'sequence', max: 1.5 } as const;
          const plain = { ...options, ...extras.aggregation, ...extras.kl, rolloutCorrection: correction, backend };
          const without = runSync(full, { ...plain, perToken: true } as AnyOptions);
          const klCov = { ratio, coef: 0.7 };
          const result = runSync(full, { ...plain, perToken: true, klCov } as AnyOptions);
          const rho = name === 'vespo' ? Array.from(batch.rewards, () => 1) : rolloutWeights(batch, 1.5);
          const weights = spreadOver(batch, rho).map((w, t) => w * (name === 'gmpo' ? 1 : tokenWeights[t]));
          const penalty = penalties(batch, all, klCov, weights);
          const share = shares(batch, extras.aggregation);
          const loss = penalty.value.reduce((sum, value, t) => sum + share[t] * value, without.loss);
          expectCloseNumber(result.loss, loss, 1e-11, 1e-1);
          const gradient = Array.from(without.gradLogProbs, (g, t) => g + share[t] * penalty.slope[t]);
          expectClose(result.gradLogProbs, gradient, 1e-11);
          expectClose(
            result.tokenLosses!,
            penalty.value.map((value, t) => without.tokenLosses![t] + value),
            1e-11,
          );
        }),
        { numRuns: 15 },
      );
    });
  });

  test('klCov of equal covariances: the first ones', () => {
    const { batch } = aligned(24);
    const { tokenLosses } = grpoSync(batch, { perToken: true, backend });
    const options = { perToken: true, klCov: { ratio: 0.25 }, backend };
    const penalised = grpoSync(batch, options).tokenLosses!.map((value, t) => value - tokenLosses![t]);
    expect(Array.from(penalised, (value) => value > 0.01)).toEqual(Array.from(penalised, (_, t) => t < 6));
  });

  test('of many tokens', async () => {
    const tokens = backend === 'cuda' ? 600 : 80_000; // the emulation is slow
    const random = new Random(5);
    const logProbs = Float64Array.from({ length: tokens }, () => -3 * random.uniform());
    const batch = {
      logProbs,
      oldLogProbs: logProbs.map((logProb) => logProb + 0.05),
      cuSeqlens: Int32Array.of(0, tokens / 2, tokens),
      advantages: Float64Array.of(1, -1),
    };
    const options = { klCov: { ratio: 0.01 }, clipCov: { ratio: 0.2, low: 0.5, high: 1 }, perToken: true, backend };
    const { tokenLosses } = await grpo(batch, options);
    const plain = (await grpo(batch, { perToken: true, backend })).tokenLosses!;
    const centre = mean(Array.from(logProbs));
    const cov = logProbs.map((logProb, t) => (t < tokens / 2 ? 1 : -1) * (logProb - centre));
    const bound = cov.slice().sort()[tokens - tokens / 100];
    expect(tokenLosses!.every((value, t) => value > plain[t] === cov[t] >= bound || value === 0)).toBe(true);
    const out = cov.filter((_, t) => tokenLosses![t] === 0);
    expect(out).toHaveLength(Math.min(tokens / 5, cov.filter((c) => c > 0.5 && c < 1).length));
    expect(out.every((c) => c > 0.5 && c < 1)).toBe(true);
  });

  test.each<[name: string, options: AnyOptions]>([
    ['clipCov', { clipCov: { ratio: 0.2, low: -0.5, seed: 3 } }],
    ['klCov', { klCov: { ratio: 0.3, coef: 0.4 } }],
    [
      'both, with a KL penalty and an entropy bonus',
      { clipCov: { low: -1 }, klCov: {}, entropyCoef: 0.1, klCoef: 0.2 },
    ],
  ])('%s: finite differences down to the logits, also where the gradient is deferred', (_name, options) => {
    const batch = fullBatch(3);
    expectGradient(backend, batch, (moved, on) => grpoSync(moved, { ...options, backend: on }));
    if (options.entropyCoef) return;
    const whole = grpoSync(batch, { ...options, backend });
    expect(whole.loss).not.toBe(grpoSync(batch, { backend }).loss);
    const deferred = grpoSync(batch, { ...options, gradient: { deferred: true }, backend });
    const scaled = deferred.gradLogits.map((value, k) => value * deferred.rowScale[Math.floor(k / 5)]);
    expectClose(scaled, whole.gradLogits, 1e-6);
  });

  test('klCov: finite differences of gspo, and of gmpo', () => {
    for (const runSync of [gspoSync, gmpoSync] as (typeof gspoSync)[]) {
      expectGradient(backend, fullBatch(3), (moved, on) => runSync(moved, { klCov: { ratio: 0.3 }, backend: on }));
    }
  });

  test('groups in any order, and tokens that are skipped', () => {
    const options = { clipCov: { ratio: 0.2, low: -1, seed: 9 }, klCov: { ratio: 0.2 }, backend } as const;
    const batch = fullBatch(8);
    const skipped = batch.mask.indexOf(1);
    const mask = batch.mask.map((m, t) => (t === skipped ? 0 : m));
    const logits = batch.logits.map((z, k) => (Math.floor(k / 5) === skipped ? Number.NaN : z));
    const expected = grpoSync({ ...batch, mask }, options);
    const result = grpoSync({ ...batch, logits }, { ...options, onNonFinite: 'skip' });
    expect(result.loss).toBe(expected.loss);
    expect(result.gradLogits).toEqual(expected.gradLogits);
    expect(() => grpoSync({ ...batch, logits }, options)).toThrow(rlvrError('ERR_NONFINITE', /^logits/));
    const ids = Array.from(batch.rewards, (_, i) => i % 2);
    const dense = grpoSync({ ...batch, ...fromDense(ids) }, options);
    const own = { ...batch, advantages: dense.advantages! };
    expect(dense.gradLogits).toEqual(grpoSync(own, options).gradLogits);
  });

  test('nothing to choose from: no tokens, all masked, ratios of 0, no spread, on-policy', () => {
    const options = {
      clipCov: { ratio: 1, low: -9, high: Infinity },
      klCov: { ratio: 1 },
      perToken: true,
      backend,
    } as const;
    const { batch } = aligned(4);
    const none = {
      ...batch,
      logProbs: new Float64Array(0),
      oldLogProbs: new Float64Array(0),
      cuSeqlens: new Int32Array(3),
    };
    expect(grpoSync(none, options)).toMatchObject({ loss: 0, gradLogProbs: new Float64Array(0) });
    const masked = grpoSync({ ...batch, mask: new Uint8Array(4) }, options);
    expect(masked).toMatchObject({ loss: 0, gradLogProbs: new Float64Array(4), tokenLosses: new Float64Array(4) });
    const plain = grpoSync(batch, { perToken: true, backend });
    const zero = grpoSync(batch, { clipCov: { ratio: 0, low: 0 }, klCov: { ratio: 0 }, perToken: true, backend });
    const measured = { ...plain, metrics: { ...plain.metrics, clipCovFraction: 0 } };
    expect(zero).toEqual(measured);
    expect(grpoSync(batch, { ...options, klCov: { coef: 0 }, clipCov: { low: 0.5 } })).toEqual(measured); // not above 0.5
    expect(grpoSync(batch, options)).toMatchObject({ loss: 0, gradLogProbs: new Float64Array(4) }); // the penalty is dropped too
    const level = { ...batch, advantages: Float64Array.of(1, 1) };
    expect(grpoSync(level, { clipCov: { ratio: 1 }, backend }).loss).toBe(grpoSync(level, { backend }).loss);
    const { oldLogProbs: _old, ...onPolicy } = batch;
    const still = grpoSync(onPolicy, { klCov: { ratio: 1 }, perToken: true, backend });
    expect(still).toEqual(grpoSync(onPolicy, { perToken: true, backend }));
  });

  test('advantages beyond bounds: no NaN', () => {
    const { batch } = aligned(4);
    const advantages = Float64Array.of(1.7e308, -1.7e308);
    const far = { ...batch, oldLogProbs: batch.logProbs, advantages };
    const { loss } = grpoSync(far, { clipCov: { ratio: 1, low: 0, high: Infinity }, klCov: { ratio: 0.5 }, backend });
    expect(loss).toBe(0);
  });

  describe('refused, by name', () => {
    const batch = fullBatch(2);
    test.each<[options: object, code: string, message: RegExp]>([
      [{ clipCov: { ratio: -0.1 } }, 'ERR_RANGE', /^clipCov\.ratio: .*at least 0/],
      [{ clipCov: { ratio: 1.5 } }, 'ERR_RANGE', /^clipCov\.ratio: .*at most 1/],
      [{ clipCov: { ratio: Number.NaN } }, 'ERR_RANGE', /^clipCov\.ratio: .*NaN/],
      [{ clipCov: { low: -Infinity } }, 'ERR_RANGE', /^clipCov\.low: expected a finite number/],
      [{ clipCov: { low: 3, high: 2 } }, 'ERR_RANGE', /^clipCov\.high: .*at least 3/],
      [{ clipCov: { high: '5' } }, 'ERR_RANGE', /^clipCov\.high: expected a number/],
      [{ clipCov: { seed: 0.5 } }, 'ERR_RANGE', /^clipCov\.seed: expected a whole number/],
      [{ clipCov: { seed: 2 ** 32 } }, 'ERR_RANGE', /^clipCov\.seed: .*at most 4294967295/],
      [{ clipCov: { rato: 1 } }, 'ERR_OPTION', /^clipCov\.rato: .*clipCov\.ratio/],
      [{ clipCov: true }, 'ERR_DTYPE', /^clipCov: expected an object/],
      [{ klCov: { ratio: 2 } }, 'ERR_RANGE', /^klCov\.ratio: /],
      [{ klCov: { coef: -1 } }, 'ERR_RANGE', /^klCov\.coef: /],
      [{ klCov: 1 }, 'ERR_DTYPE', /^klCov: expected an object/],
      [{ form: 'discriminative', clipCov: {} }, 'ERR_RANGE', /^clipCov: expected none/],
      [{ form: 'discriminative', klCov: {} }, 'ERR_RANGE', /^klCov: expected none/],
    ])('%j', (options, code, message) => {
      expect(() => grpoSync(batch, { ...options, backend } as AnyOptions)).toThrow(rlvrError(code, message));
    });

    test('of gmpo, and of a summed ratio', () => {
      const refused = rlvrError('ERR_RANGE', /^clipCov: expected weights per sequence/);
      expect(() => gmpoSync(batch, { clipCov: {}, backend })).toThrow(refused);
      expect(() => dapoSync(batch, { clipCov: {}, ratioLevel: 'sum', backend })).toThrow(refused);
    });
  });

  test('a gate so far out that its slope may be rounded to 0 has stopped a token', () => {
    const batch = {
      logProbs: Float64Array.of(-0.1, -0.2, -0.3),
      oldLogProbs: Float64Array.of(-0.1, -3.6, -19.5), // ratios 1, 30 and 2e8
      cuSeqlens: Int32Array.of(0, 3),
      advantages: Float64Array.of(-1, 2, -3),
    };
    const clipCov = { ratio: 1, low: -100, high: 100 };
    const { metrics } = sapoSync(batch, { clipCov, backend });
    expect(metrics.clipCovFraction).toBeCloseTo(2 / 3, 12);
  });
});
