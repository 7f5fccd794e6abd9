// The exact results of the sequence and the group level in float64, written from the formulas (native/ops/*.h),
// independently of the package's kernels and of its reference backend.
import type { RatioScoreKind } from '../../lib/index.js';
import type { ScoredRollouts } from './rollouts.js';

/** A score per sequence, and its derivative by each log-prob. */
export interface ExactScores {
  readonly scores: Float64Array; // [N]
  readonly scoreGrads: Float64Array; // [T]
}

/** Default widths of the clips, [low, high]. */
const EPSILON: Partial<Record<RatioScoreKind, readonly [number, number]>> = {
  sequenceRatio: [3e-4, 4e-4],
  geometricRatio: [0.4, 0.4],
};
const RATIO_MAX = 5;
const TAU = { positive: 1, negative: 1.05 };

type Pair = readonly [value: number, derivative: number];

/** Of one token, by d = logProb - oldLogProb (stoppedRatio: by the log-prob); positive: which side is clipped. */
function tokenTerm(kind: RatioScoreKind, d: number, positive: boolean, logProb: number): Pair {
  const [low, high] = EPSILON[kind] ?? [0.2, 0.2];
  const r = Math.exp(d);
  switch (kind) {
    case 'ratio':
      return [r, r];
    case 'clippedRatio':
      return positive ? (r > 1 + high ? [1 + high, 0] : [r, r]) : r < 1 - low ? [1 - low, 0] : [r, r];
    case 'geometricRatio':
      return positive ? (d > high ? [high, 0] : [d, 1]) : d < -low ? [-low, 0] : [d, 1];
    case 'stoppedRatio':
      return [Math.min(r, RATIO_MAX) * logProb, Math.min(r, RATIO_MAX)];
    case 'softGate': {
      const tau = positive ? TAU.positive : TAU.negative;
      const s = 1 / (1 + Math.exp(-tau * (r - 1)));
      return [(4 / tau) * s, 4 * s * (1 - s) * r];
    }
    case 'trustRegionTv':
    case 'trustRegionKl': {
      const weight = isTrusted(kind, logProb, logProb - d, positive) ? Math.min(r, 20) : 0;
      return [weight * logProb, weight];
    }
    case 'k2':
      return [d ** 2 / 2, d];
    case 'k3':
      return [1 / r - 1 + d, 1 - 1 / r];
    case 'k3+':
      return [1 / r - 1 + d, d];
    case 'k1+':
      return [d, d];
    case 'abs':
      return [Math.abs(d), Math.sign(d)];
    default: // sequenceRatio, gammaWeight, logRatio, k1
      return [d, 1];
  }
}

/** Whether a token has not left its trust region. */
function isTrusted(kind: RatioScoreKind, logProb: number, oldLogProb: number, positive: boolean): boolean {
  const [p, q] = [Math.exp(logProb), Math.exp(oldLogProb)];
  const kl = q * Math.log(q / p) + (1 - q) * Math.log((1 - q) / (1 - p));
  const moved = kind === 'trustRegionTv' ? p - q : Math.sign(p - q) * kl;
  return positive ? moved <= 0.2 : moved >= -0.2;
}

/** The weight of a sequence's mean log-prob in gammaWeight. */
function gammaWeight(sum: number, positive: boolean): number {
  const [k, lambda] = positive ? [2, 3] : [3, 2];
  const log = Math.max(Math.min(sum, 20), Math.log(1e-8));
  return Math.exp(lambda + k * log - lambda * Math.exp(log));
}

/** The score from the mean of the terms, and the factor on their derivatives. */
function scoreOf(kind: RatioScoreKind, mean: number, positive: boolean): Pair {
  const s = Math.exp(mean);
  if (kind === 'geometricRatio') return [s, s];
  if (kind !== 'sequenceRatio') return [mean, 1];
  const [low, high] = EPSILON[kind] ?? [0, 0];
  return positive ? (s > 1 + high ? [1 + high, 0] : [s, s]) : s < 1 - low ? [1 - low, 0] : [s, s];
}

function eachSequence(cuSeqlens: Int32Array, score: (i: number, begin: number, end: number) => void): void {
  for (let i = 0; i + 1 < cuSeqlens.length; i++) score(i, cuSeqlens[i], cuSeqlens[i + 1]);
}

/** Ratio scores with the sign of the advantages as side, at the package's defaults. */
export function exactRatioScores(kind: RatioScoreKind, rollouts: ScoredRollouts): ExactScores {
  const { logProbs, oldLogProbs, cuSeqlens, advantages } = rollouts;
  const scores = new Float64Array(cuSeqlens.length - 1);
  const scoreGrads = new Float64Array(logProbs.length);
  eachSequence(cuSeqlens, (i, begin, end) => {
    const positive = advantages[i] > 0;
    let [sum, logProbSum] = [0, 0];
    for (let t = begin; t < end; t++) {
      const [value, derivative] = tokenTerm(kind, logProbs[t] - oldLogProbs[t], positive, logProbs[t]);
      sum += value;
      logProbSum += logProbs[t];
      scoreGrads[t] = derivative / (end - begin);
    }
    const weight = gammaWeight(sum, positive);
    const [score, factor] =
      kind === 'gammaWeight'
        ? [(weight * logProbSum) / (end - begin), weight]
        : scoreOf(kind, sum / (end - begin), positive);
    scores[i] = score;
    for (let t = begin; t < end; t++) scoreGrads[t] *= factor;
  });
  return { scores, scoreGrads };
}

/** The mean log-prob of each sequence. */
export function exactMeans({ logProbs, cuSeqlens }: ScoredRollouts): ExactScores {
  const scores = new Float64Array(cuSeqlens.length - 1);
  const scoreGrads = new Float64Array(logProbs.length);
  eachSequence(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) scores[i] += logProbs[t] / (end - begin);
    scoreGrads.fill(1 / (end - begin), begin, end);
  });
  return { scores, scoreGrads };
}

/** The chain rule: [T] from [N]. */
export function exactBackward(gradScores: Float64Array, scoreGrads: Float64Array, cuSeqlens: Int32Array): Float64Array {
  const gradLogProbs = new Float64Array(scoreGrads.length);
  eachSequence(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) gradLogProbs[t] = gradScores[i] * scoreGrads[t];
  });
  return gradLogProbs;
}

export interface ExactObjective {
  readonly loss: number;
  readonly gradScores: Float64Array; // [N]
}

/** ConSPO's objective without a margin: the mean over groups and positives of tau * softplus((b - s) / tau). */
export function exactInfoNce(
  scores: Float64Array,
  rewards: ArrayLike<number>,
  cuGroups: Int32Array,
  tau: number,
): ExactObjective {
  const groups = cuGroups.length - 1;
  const gradScores = new Float64Array(scores.length);
  let loss = 0;
  eachSequence(cuGroups, (_, begin, end) => {
    let top = -Infinity;
    for (let i = begin; i < end; i++) if (rewards[i] <= 0) top = Math.max(top, scores[i]);
    let sum = 0;
    let positives = 0;
    for (let i = begin; i < end; i++) {
      if (rewards[i] > 0) positives++;
      else sum += Math.exp((scores[i] - top) / tau);
    }
    if (positives === 0 || sum === 0) return;
    const b = top + tau * Math.log(sum);
    let pull = 0;
    for (let i = begin; i < end; i++) {
      if (rewards[i] <= 0) continue;
      const x = (b - scores[i]) / tau;
      const sigmoid = 1 / (1 + Math.exp(-x));
      loss += (tau * (Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))))) / positives / groups;
      gradScores[i] = -sigmoid / positives / groups;
      pull += sigmoid / positives / groups;
    }
    for (let i = begin; i < end; i++) {
      if (rewards[i] <= 0) gradScores[i] = (pull * Math.exp((scores[i] - top) / tau)) / sum;
    }
  });
  return { loss, gradScores };
}

/** -sum A s / N. */
export function exactAdvantageWeighted(scores: Float64Array, advantages: Float64Array): ExactObjective {
  const gradScores = advantages.map((advantage) => -advantage / advantages.length);
  return { loss: scores.reduce((sum, score, i) => sum + gradScores[i] * score, 0), gradScores };
}
