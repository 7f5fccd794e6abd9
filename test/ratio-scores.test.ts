import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { offsetsOf } from '../bench/problems/rollouts.js';
import {
  advantageObjectiveSync,
  type BackendName,
  type RatioScore,
  type RatioScoreKind,
  type RatioScoresInputs,
  ratioScores,
  ratioScoresBackward,
  ratioScoresBackwardSync,
  ratioScoresSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { asInOracle, type GoldenCase, goldenBatch, goldenCases } from './support/golden.js';
import { randomBatch } from './support/random.js';

const SCORES: RatioScore[] = [
  { kind: 'ratio' },
  { kind: 'clippedRatio', epsilonLow: 0.2, epsilonHigh: 0.28 },
  { kind: 'sequenceRatio', epsilonLow: 0.03, epsilonHigh: 0.05 },
  { kind: 'geometricRatio', epsilonLow: 0.4, epsilonHigh: 0.4 },
  { kind: 'stoppedRatio', ratioMin: 0.6, ratioMax: 1.3 },
  { kind: 'softGate', tauPos: 1, tauNeg: 1.05 },
  { kind: 'trustRegionTv', epsilonLow: 0.1, epsilonHigh: 0.05, ratioMax: 1.3 },
  { kind: 'trustRegionKl', epsilonLow: 0.1, epsilonHigh: 0.05, ratioMax: 1.3 },
  { kind: 'logRatio' },
  { kind: 'gammaWeight' },
  { kind: 'k1' },
  { kind: 'k2' },
  { kind: 'k3' },
  { kind: 'k1+' },
  { kind: 'k3+' },
  { kind: 'abs' },
];

/** Scores with further parameters; a ratio that multiplies an estimate of KL is to `samplerLogProbs`. */
const FURTHER: RatioScore[] = [
  { kind: 'ratio', ratioLevel: 'sequence' },
  { kind: 'ratio', ratioLevel: 'sum' },
  { kind: 'clippedRatio', ratioLevel: 'sequence', dualClip: 1.1, epsilonLow: 0.05 },
  { kind: 'clippedRatio', ratioLevel: 'sum', delta: 1.2 },
  { kind: 'sequenceRatio', ratioLevel: 'sum' },
  { kind: 'softGate', ratioLevel: 'sequence' },
  { kind: 'softGate', ratioLevel: 'sum', tauNeg: 2 },
  { kind: 'stoppedRatio', ratioLevel: 'sequence', ratioMin: 0.9, ratioMax: 1.1 },
  { kind: 'stoppedRatio', ratioLevel: 'sum', ratioMax: 1.1 },
  { kind: 'gammaWeight', kPos: 1, lambdaNeg: 0.5 },
  { kind: 'k1', klMax: 0.3 },
  { kind: 'k2', klMax: 0.2 },
  { kind: 'k3', klMax: 0.2 },
  { kind: 'k1+', klMax: 0.3 },
  { kind: 'k3', klWeight: 'ratio' },
  { kind: 'k2', klWeight: 'ratio', klMax: 0.4 },
  { kind: 'k3+', klWeight: 'ratio', ratioLevel: 'sequence' },
  { kind: 'k3', klWeight: 'ratio', ratioLevel: 'sequence', klMax: 0.4 },
  { kind: 'k1', klWeight: 'ratio', ratioLevel: 'sum' },
];

const isEstimate = ({ kind }: RatioScore) => /^(k\d\+?|abs)$/.test(kind);
/** Scores whose gradient is not their derivative. */
const isHeld = ({ kind }: RatioScore) => weighsConstantly(kind) || kind.endsWith('+');
/** Scores that are log-probs times constants, which the clamp does not stop. */
const weighsConstantly = (kind: RatioScoreKind) =>
  ['stoppedRatio', 'trustRegionTv', 'trustRegionKl', 'gammaWeight'].includes(kind);
/** Scores without a term per token. */
const isWhole = ({ kind, ratioLevel }: RatioScore) =>
  kind === 'geometricRatio' || (ratioLevel === 'sum' && !/^(k\d|stopped)/.test(kind));

const SCORE_OF: Record<string, RatioScoreKind> = {
  grpo: 'clippedRatio',
  dapo: 'clippedRatio',
  dr_grpo: 'clippedRatio',
  gspo: 'sequenceRatio',
  gspo_token: 'sequenceRatio',
  gmpo: 'geometricRatio',
  cispo: 'stoppedRatio',
  sapo: 'softGate',
};

/** A loss of the family, composed by hand from the ops: tokens -> scores -> objective, and back. */
function composed(
  { kind, options, expected }: GoldenCase,
  batch: ReturnType<typeof goldenBatch>,
  backend: 'reference' | 'cpu',
) {
  const { temperature, aggregation, maxLength, klCoef = 0, klEstimator } = options as Record<string, never>;
  const { logits, targets, mask, cuSeqlens, oldLogProbs, refLogProbs } = batch;
  const token = tokenLogProbsSync({ logits, targets, mask }, { temperature, backend });
  const inputs = { logProbs: token.logProbs, cuSeqlens, mask };
  const advantages = Float64Array.from(expected.advantages);
  const policy = ratioScoresSync(
    { ...inputs, oldLogProbs, sides: advantages },
    { score: { ...asInOracle(options), kind: SCORE_OF[kind] }, backend },
  );
  const kl = ratioScoresSync(
    { ...inputs, oldLogProbs: refLogProbs },
    { score: { kind: klEstimator ?? 'k3' }, backend },
  );
  const weights = { aggregation, maxLength, backend };
  const main = advantageObjectiveSync({ ...policy, advantages }, weights);
  const penalty = advantageObjectiveSync({ ...kl, advantages: advantages.map(() => -klCoef) }, weights);
  const back = (gradScores: Float64Array, { scoreGrads }: { scoreGrads: Float64Array }) =>
    ratioScoresBackwardSync({ gradScores, scoreGrads, cuSeqlens }, { backend }).gradLogProbs;
  const ofPenalty = back(penalty.gradScores, kl);
  const gradLogProbs = back(main.gradScores, policy).map((g, t) => g + ofPenalty[t]);
  const { gradLogits } = tokenLogProbsBackwardSync(
    { logits, targets, mask, logSumExp: token.logSumExp, gradLogProbs },
    { temperature, backend },
  );
  return { loss: main.loss + penalty.loss, gradLogProbs, gradLogits };
}

/** By central differences. */
function numericDerivatives(at: Float64Array, total: (moved: Float64Array) => number): Float64Array {
  const step = 1e-6;
  return at.map((_, t) => {
    const moved = (delta: number) => total(at.map((x, k) => (k === t ? x + delta : x)));
    return (moved(step) - moved(-step)) / (2 * step);
  });
}

/** Scores, their gradients and what is counted. */
function expectAsReference(inputs: RatioScoresInputs, score: RatioScore, backend: BackendName): void {
  const actual = ratioScoresSync(inputs, { score, backend });
  const expected = ratioScoresSync(inputs, { score, backend: 'reference' });
  expectClose(actual.scores, expected.scores, 1e-13);
  expectClose(actual.scoreGrads, expected.scoreGrads, 1e-13);
  expect([actual.tokenCounts, actual.clippedLow, actual.clippedHigh]).toEqual([
    expected.tokenCounts,
    expected.clippedLow,
    expected.clippedHigh,
  ]);
}

describeBackends('ratio-scores', (backend) => {
  describe('golden cases of the GRPO family, composed from the ops', () => {
    test.each(goldenCases(...Object.keys(SCORE_OF)))('%s', (_name, golden) => {
      const { loss, gradLogProbs, gradLogits } = composed(golden, goldenBatch(golden), backend as 'cpu');
      expectCloseNumber(loss, golden.expected.loss, 2e-6, 1e-2);
      expectClose(gradLogProbs, golden.expected.gradLogProbs, 2e-6);
      expectClose(gradLogits, golden.expected.gradLogits, 2e-6);
    });
  });

  describe('golden scores of DisCO', () => {
    test.each(goldenCases('disco').filter(([, golden]) => golden.options.score === 'likelihood-ratio'))(
      '%s',
      (_name, golden) => {
        const { logits, targets, mask, cuSeqlens, oldLogProbs } = goldenBatch(golden);
        const { temperature } = golden.options;
        const { logProbs } = tokenLogProbsSync({ logits, targets, mask }, { temperature, backend });
        const { scores } = ratioScoresSync(
          { logProbs, oldLogProbs, cuSeqlens, mask },
          { score: { kind: 'ratio' }, backend },
        );
        expectClose(scores, golden.expected.scores, 2e-6);
      },
    );
  });

  describe.each(SCORES)('$kind', (score) => {
    const batch = randomBatch(7, { vocab: 6, groups: 5 });
    const random = new Random(9);
    const sides = Float64Array.from({ length: batch.cuSeqlens.length - 1 }, () => random.normal());
    const inputs: RatioScoresInputs = {
      logProbs: batch.refLogProbs,
      oldLogProbs: batch.oldLogProbs,
      cuSeqlens: batch.cuSeqlens,
      mask: batch.mask,
      sides,
    };

    test.skipIf(isHeld(score) && score.kind !== 'stoppedRatio')(
      'scoreGrads are the derivatives: finite differences',
      () => {
        const frozen = Float64Array.from(batch.refLogProbs); // the stopped ratio's weights are constants
        const total = (logProbs: Float64Array) => {
          if (score.kind !== 'stoppedRatio') {
            const { scores } = ratioScoresSync({ ...inputs, logProbs }, { score, backend });
            return scores.reduce((sum, s, i) => sum + (i + 1) * s, 0);
          }
          let sum = 0;
          for (let i = 0; i < sides.length; i++) {
            let [n, s] = [0, 0];
            for (let t = batch.cuSeqlens[i]; t < batch.cuSeqlens[i + 1]; t++) {
              if (!batch.mask[t]) continue;
              n++;
              s += Math.min(Math.max(Math.exp(frozen[t] - batch.oldLogProbs[t]), 0.6), 1.3) * logProbs[t];
            }
            sum += ((i + 1) * s) / Math.max(n, 1);
          }
          return sum;
        };
        const { scoreGrads } = ratioScoresSync(inputs, { score, backend });
        const gradScores = sides.map((_, i) => i + 1);
        const { gradLogProbs } = ratioScoresBackwardSync(
          { gradScores, scoreGrads, cuSeqlens: batch.cuSeqlens },
          { backend },
        );
        expectClose(gradLogProbs, numericDerivatives(batch.refLogProbs, total), 1e-7);
      },
    );

    test('masked tokens are never read, and async gives the same bits', async () => {
      const clean = ratioScoresSync(inputs, { score, backend });
      const spoil = (values: Float64Array) => values.map((x, t) => (batch.mask[t] ? x : NaN));
      const spoiled = { ...inputs, logProbs: spoil(batch.refLogProbs), oldLogProbs: spoil(batch.oldLogProbs) };
      expect(await ratioScores(spoiled, { score, backend })).toEqual(clean);
      const backward = { gradScores: sides, scoreGrads: clean.scoreGrads, cuSeqlens: batch.cuSeqlens };
      expect(await ratioScoresBackward(backward, { backend })).toEqual(ratioScoresBackwardSync(backward, { backend }));
    });

    test('far off-policy: finite, and no gradient through the clamp at 20', () => {
      const gaps = [25, -25, 100, -100, 1000, -1000, Infinity, -Infinity];
      const logProbs = new Float64Array(gaps.length * 2).fill(-1);
      const oldLogProbs = Float64Array.from([...gaps, ...gaps], (gap) => -1 - gap);
      const cuSeqlens = Int32Array.from({ length: logProbs.length + 1 }, (_, i) => i);
      const both = logProbs.map((_, i) => (i < gaps.length ? 1 : -1));
      const result = ratioScoresSync({ logProbs, oldLogProbs, cuSeqlens, sides: both }, { score, backend });
      expectFinite(result.scores);
      if (!weighsConstantly(score.kind)) expect(result.scoreGrads.every((g) => g === 0)).toBe(true);
    });

    test('on-policy: omitting oldLogProbs is passing the current ones', () => {
      const omitted = ratioScoresSync({ ...inputs, oldLogProbs: undefined }, { score, backend });
      const passed = ratioScoresSync({ ...inputs, oldLogProbs: inputs.logProbs }, { score, backend });
      expect(omitted).toEqual(passed);
    });
  });

  describe.each(FURTHER)('%o', (score) => {
    const batch = randomBatch(7, { vocab: 6, groups: 5 });
    const random = new Random(9);
    const { refLogProbs: logProbs, oldLogProbs, cuSeqlens, mask } = batch;
    const samplerLogProbs = logProbs.map((l) => l + 0.3 * random.normal());
    const sides = Float64Array.from({ length: cuSeqlens.length - 1 }, () => random.normal());
    const inputs: RatioScoresInputs = { logProbs, oldLogProbs, samplerLogProbs, cuSeqlens, mask, sides };

    test.skipIf(isHeld(score))('scoreGrads are the derivatives: finite differences', () => {
      const gradScores = Float64Array.from({ length: cuSeqlens.length - 1 }, (_, i) => i + 1);
      const total = (moved: Float64Array) => {
        const { scores } = ratioScoresSync({ ...inputs, logProbs: moved }, { score, backend });
        return scores.reduce((sum, s, i) => sum + gradScores[i] * s, 0);
      };
      const { scoreGrads } = ratioScoresSync(inputs, { score, backend });
      const { gradLogProbs } = ratioScoresBackwardSync({ gradScores, scoreGrads, cuSeqlens }, { backend });
      expectClose(gradLogProbs, numericDerivatives(logProbs, total), 1e-7);
    });

    test('masked tokens are never read, and async gives the same bits', async () => {
      const spoil = (values: Float64Array) => values.map((x, t) => (mask[t] ? x : NaN));
      const spoilt = { ...inputs, logProbs: spoil(logProbs), oldLogProbs: spoil(oldLogProbs) };
      const all = { ...spoilt, samplerLogProbs: spoil(samplerLogProbs) };
      expect(await ratioScores(all, { score, backend })).toEqual(ratioScoresSync(inputs, { score, backend }));
    });

    test('far off-policy: finite, and no gradient through the clamp at 20', () => {
      const gaps = [25, -25, 1000, -1000, Infinity, -Infinity];
      const far = new Float64Array(gaps.length).fill(-1);
      const away = Float64Array.from(gaps, (gap) => -1 - gap);
      const each = Int32Array.from({ length: gaps.length + 1 }, (_, i) => i);
      const result = ratioScoresSync(
        { logProbs: far, oldLogProbs: away, samplerLogProbs: away, cuSeqlens: each },
        { score, backend },
      );
      expectFinite([result.scores, result.scoreGrads]);
      if (!weighsConstantly(score.kind)) expect(result.scoreGrads.every((g) => g === 0)).toBe(true);
    });

    test('on-policy: omitting samplerLogProbs is passing the current ones', () => {
      const omitted = ratioScoresSync({ ...inputs, samplerLogProbs: undefined }, { score, backend });
      const own = score.kind === 'gammaWeight' ? oldLogProbs : logProbs; // of which it takes the log-ratio
      expect(ratioScoresSync({ ...inputs, samplerLogProbs: own }, { score, backend })).toEqual(omitted);
    });
  });

  test.each<[score: RatioScore, message: string]>([
    [{ kind: 'ratio', klWeight: 'ratio' }, "klWeight: expected 'none' with ratio"],
    [{ kind: 'k3', ratioLevel: 'sequence' }, "ratioLevel: expected 'token' with k3 without klWeight"],
    [{ kind: 'geometricRatio', ratioLevel: 'sequence' }, "ratioLevel: expected 'token' with geometricRatio"],
    [{ kind: 'trustRegionTv', ratioLevel: 'sum' }, "ratioLevel: expected 'token' with trustRegionTv"],
    [{ kind: 'sequenceRatio', ratioLevel: 'token' }, "ratioLevel: expected 'sequence' or 'sum' with sequenceRatio"],
    [{ kind: 'gammaWeight', lambdaPos: 0 }, 'lambdaPos: expected'],
    [{ kind: 'gammaWeight', kNeg: -1 }, 'kNeg: expected'],
    [{ kind: 'k3', ratioLevel: 'group' as never }, 'ratioLevel: expected'],
    [{ kind: 'k3', klMax: -1 }, 'klMax: expected'],
  ])('%o is refused', (score, message) => {
    const inputs = { logProbs: new Float64Array(1), cuSeqlens: Int32Array.of(0, 1) };
    expect(() => ratioScoresSync(inputs, { score, backend })).toThrow(rlvrError('ERR_RANGE', message));
  });

  test('clipping looks at one side only, and is counted', () => {
    const oldLogProbs = new Float64Array(6);
    const logProbs = Float64Array.of(
      Math.log(1.5),
      Math.log(0.5),
      Math.log(1.5),
      Math.log(0.5),
      Math.log(1.5),
      Math.log(0.5),
    );
    const cuSeqlens = Int32Array.of(0, 2, 4, 6);
    const score: RatioScore = { kind: 'clippedRatio', epsilonLow: 0.2, epsilonHigh: 0.2 };
    const result = ratioScoresSync(
      { logProbs, oldLogProbs, cuSeqlens, sides: Float64Array.of(2, -0.5, 0) },
      { score, backend },
    );
    expectClose(result.scores, [(1.2 + 0.5) / 2, (1.5 + 0.8) / 2, 1], 1e-14);
    expectClose(result.scoreGrads, [0, 0.25, 0.75, 0, 0.75, 0.25], 1e-14);
    expect([Array.from(result.clippedLow), Array.from(result.clippedHigh)]).toEqual([
      [0, 1, 0],
      [1, 0, 0],
    ]);
  });

  test('random batches agree with the reference', () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(...SCORES, ...FURTHER), (seed, score) => {
        const { refLogProbs: logProbs, oldLogProbs, cuSeqlens, mask } = randomBatch(seed, { vocab: 4, groups: 4 });
        const random = new Random(seed);
        const sides = Float64Array.from({ length: cuSeqlens.length - 1 }, () => Math.round(random.normal()));
        const samplerLogProbs = logProbs.map((l) => l + 0.3 * random.normal());
        const inputs = { logProbs, oldLogProbs, samplerLogProbs, cuSeqlens, mask, sides };
        expectAsReference(inputs, score, backend);
      }),
      { numRuns: 60 },
    );
  });

  test.each(SCORES)('$kind of single tokens, wherever the log-ratio is, to the last bits', (score) => {
    // So many because of the CPU's own exponential. CUDA calls its library's, and each sequence is a warp, slow to emulate.
    const count = backend === 'cuda' ? 2000 : 20_000;
    const logProbs = Float64Array.from({ length: count }, (_, i) => {
      const part = i / count;
      return i % 2 ? 50 * part - 25 : (i % 4 ? 1 : -1) * 2 ** (-40 * part);
    });
    const oldLogProbs = new Float64Array(count);
    const cuSeqlens = Int32Array.from({ length: count + 1 }, (_, i) => i);
    const inputs = { logProbs, oldLogProbs, cuSeqlens };
    const actual = ratioScoresSync(inputs, { score, backend });
    const expected = ratioScoresSync(inputs, { score, backend: 'reference' });
    for (let i = 0; i < count; i++) {
      expectCloseNumber(actual.scores[i], expected.scores[i], 4e-15, 0.1); // the terms of k3 cancel
      // The soft gate's gradient falls as exp(-tau r), the gamma weight as exp(-lambda w): both magnify the rounding of a ratio.
      const magnifies = score.kind === 'softGate' || score.kind === 'gammaWeight';
      const [tolerance, floor] = magnifies ? [1e-13, 1e-20] : [4e-15, 1e-300];
      expectCloseNumber(actual.scoreGrads[i], expected.scoreGrads[i], tolerance, floor);
    }
  });

  test.each([...SCORES, ...FURTHER])('%o of sequences of many lengths, masked, with weights or sides', (score) => {
    const lengths = [0, 1, 7, 8, 9, 255, 256, 257, 1000];
    const random = new Random(11);
    const cuSeqlens = offsetsOf(lengths);
    const length = cuSeqlens[lengths.length];
    const mask = Uint8Array.from({ length }, () => (random.uniform() < 0.3 ? 0 : 1));
    const values = () => Float64Array.from({ length }, (_, t) => (mask[t] ? 0.7 * random.normal() : NaN));
    const given = { logProbs: values(), oldLogProbs: values(), samplerLogProbs: values(), cuSeqlens, mask };
    const whole = {
      logProbs: given.logProbs.map((x) => x || 0.1),
      oldLogProbs: given.oldLogProbs.map((x) => x || 0),
      samplerLogProbs: given.samplerLogProbs.map((x) => x || 0.2),
    };
    const sides = Float64Array.from(lengths, (_, i) => (i % 3) - 1);
    const weights = { tokenWeights: Float64Array.from({ length }, () => random.normal()) };
    const sided = isEstimate(score) ? {} : { sides };
    const cases = [
      given,
      { ...given, ...sided },
      { cuSeqlens, ...whole, ...sided },
      { logProbs: whole.logProbs, cuSeqlens },
    ];
    if (!isWhole(score) && sided.sides) cases.push({ ...given, ...weights }, { ...given, ...sided, ...weights });
    for (const inputs of cases) {
      expectAsReference(inputs, score, backend);
    }
  });
});
