// The scores on importance ratios: their names, parameters and defaults.

import { badArgument } from './errors.js';
import {
  RATIO_LEVEL_CODES,
  RATIO_SCORE_CODES,
  RATIO_SCORE_KINDS,
  type RatioLevel,
  type RatioScoreKind,
  type TokenTerm,
} from './kernels.js';
import { namesOf } from './options.js';
import { finiteNumber, oneOf } from './validate.js';

/** The estimators of KL among the scores. */
export type KlEstimator = 'k1' | 'k2' | 'k3' | 'k1+' | 'k3+' | 'abs';

/** All of them. */
export const KL_ESTIMATORS: readonly KlEstimator[] = ['k1', 'k2', 'k3', 'k1+', 'k3+', 'abs'];

/** An estimator of KL, with its parameters. */
export type KlScore = RatioScore & { kind: KlEstimator };

const RATIO_LEVELS = Object.keys(RATIO_LEVEL_CODES) as RatioLevel[];

/**
 * A score built on the log-ratio `d = logProbs - oldLogProbs` (clamped to +-20) and `r = exp(d)`, mean over the sequence:
 *
 * | kind | score | used by |
 * |---|---|---|
 * | `ratio` | mean r | DisCO |
 * | `clippedRatio` | mean min(r, 1 + epsilonHigh) on the positive side, mean max(r, 1 - epsilonLow) on the negative | GRPO, DAPO |
 * | `sequenceRatio` | exp(mean d), then the same one-sided clip: `clippedRatio` with `ratioLevel: 'sequence'` | GSPO |
 * | `geometricRatio` | exp(mean min(d, epsilonHigh)) or exp(mean max(d, -epsilonLow)) | GMPO |
 * | `stoppedRatio` | mean of clamp(r, ratioMin, ratioMax), held constant, times logProbs; the bounds are absolute | CISPO |
 * | `softGate` | mean (4 / tau) * sigmoid(tau * (r - 1)), tau by side | SAPO |
 * | `trustRegionTv`, `trustRegionKl` | mean of min(r, ratioMax), or 0 outside the trust region, held constant, times logProbs | DPPO |
 * | `gammaWeight` | phi(w), held constant, times mean logProbs: log phi = lambda + k log w - lambda w, log w = the sum of d | VESPO |
 * | `logRatio` | mean d | REAL |
 * | `k1`, `k2`, `k3`, `abs` | estimators of KL to the policy of `oldLogProbs`: d, d^2 / 2, exp(-d) + d - 1, the absolute value of d | KL penalties |
 * | `k1+`, `k3+` | the values of k1 and k3, with the gradient of k2 | KL penalties |
 *
 * A token is outside the trust region where the divergence D is above `epsilonHigh` on the positive side, or below -`epsilonLow` on
 * any other: D is the difference of the token's two probabilities, or the KL of the old one from the current one, each against all
 * other tokens, negative where the probability has fallen.
 */
export interface RatioScore {
  /** Which score. */
  kind: RatioScoreKind;
  /** Width of the lower clip, >= 0; Infinity for none. Default 0.2 (sequenceRatio 3e-4, geometricRatio 0.4). */
  epsilonLow?: number | undefined;
  /** Width of the upper clip, >= 0; Infinity for none. Default 0.2 (sequenceRatio 4e-4, geometricRatio 0.4). */
  epsilonHigh?: number | undefined;
  /**
   * clippedRatio and sequenceRatio only: cap of the ratio on the negative side (dual-clip PPO's c, verl's `clip_ratio_c`), >= 1. Default none.
   */
  dualClip?: number | undefined;
  /** clippedRatio and sequenceRatio only: TRL's two-sided bound of the unclipped ratio, > 0. Default none. */
  delta?: number | undefined;
  /** Absolute lower bound of the stopped ratio. Default 0. */
  ratioMin?: number | undefined;
  /** Absolute upper bound of the stopped ratio, or of that in a trust region; Infinity for none. Default 5, or 20. */
  ratioMax?: number | undefined;
  /** Temperature of the soft gate on the positive side, > 0. Default 1. */
  tauPos?: number | undefined;
  /** Temperature of the soft gate everywhere else, > 0. Default 1.05. */
  tauNeg?: number | undefined;
  /** gammaWeight only: k where the side is positive or 0, >= 0. Default 2. */
  kPos?: number | undefined;
  /** gammaWeight only: k on the negative side, >= 0. Default 3. */
  kNeg?: number | undefined;
  /** gammaWeight only: lambda where the side is positive or 0, > 0. Default 3. */
  lambdaPos?: number | undefined;
  /** gammaWeight only: lambda on the negative side, > 0. Default 2. */
  lambdaNeg?: number | undefined;
  /** Estimators of KL only: cap of each token's estimate, > 0; its gradient is 0 beyond (except k2's in `k1+` and `k3+`). Default none. */
  klMax?: number | undefined;
  /**
   * Estimators of KL only: `'ratio'` multiplies them by the ratio to the policy of `samplerLogProbs`; the gradient flows through
   * both. Default `'none'`.
   */
  klWeight?: 'none' | 'ratio' | undefined;
  /**
   * Of what the ratio is, in the scores `ratio`, `clippedRatio`, `stoppedRatio` and `softGate`, and in `klWeight`: `'token'`
   * (default), `'sequence'`: exp of the mean log-ratio of the sequence, or `'sum'`: exp of their sum, which is clamped to +-20.
   * Default of sequenceRatio: `'sequence'`.
   */
  ratioLevel?: RatioLevel | undefined;
}

/** Names of {@link RatioScore}. */
export const RATIO_SCORE_NAMES = namesOf<RatioScore>({
  kind: true,
  epsilonLow: true,
  epsilonHigh: true,
  dualClip: true,
  delta: true,
  ratioMin: true,
  ratioMax: true,
  tauPos: true,
  tauNeg: true,
  kPos: true,
  kNeg: true,
  lambdaPos: true,
  lambdaNeg: true,
  klMax: true,
  klWeight: true,
  ratioLevel: true,
});

/** What a score's rules depend on, beside arrays. */
export type ScoreParameters = Omit<
  TokenTerm,
  'gradScores' | 'oldLogProbs' | 'sides' | 'tokenWeights' | 'samplerLogProbs'
>;

const EPSILON_DEFAULTS: Partial<Record<RatioScoreKind, [low: number, high: number]>> = {
  sequenceRatio: [3e-4, 4e-4],
  geometricRatio: [0.4, 0.4],
};

/** A score with its defaults filled in, checked. */
export function scoreParameters(score: RatioScore): ScoreParameters {
  const kind = oneOf('score.kind', score.kind, RATIO_SCORE_KINDS);
  const [low, high] = EPSILON_DEFAULTS[kind] ?? [0.2, 0.2];
  const ratioMin = finiteNumber('ratioMin', score.ratioMin ?? 0, { min: 0 });
  const ofTrust = kind === 'trustRegionTv' || kind === 'trustRegionKl';
  const ratioMax = finiteNumber('ratioMax', score.ratioMax ?? (ofTrust ? 20 : 5), { min: ratioMin, unbounded: true });
  const epsilonHigh = finiteNumber('epsilonHigh', score.epsilonHigh ?? high, { min: 0, unbounded: true });
  return {
    kind: RATIO_SCORE_CODES[kind === 'sequenceRatio' ? 'clippedRatio' : kind],
    epsilonLow: finiteNumber('epsilonLow', score.epsilonLow ?? low, { min: 0, unbounded: true }),
    ratioMin,
    ...(kind === 'clippedRatio' || kind === 'sequenceRatio'
      ? clipBounds(score, epsilonHigh)
      : { epsilonHigh, ratioMax }),
    tauPos: finiteNumber('tauPos', score.tauPos ?? 1, { above: 0 }),
    tauNeg: finiteNumber('tauNeg', score.tauNeg ?? 1.05, { above: 0 }),
    kPos: finiteNumber('kPos', score.kPos ?? 2, { min: 0 }),
    kNeg: finiteNumber('kNeg', score.kNeg ?? 3, { min: 0 }),
    lambdaPos: finiteNumber('lambdaPos', score.lambdaPos ?? 3, { above: 0 }),
    lambdaNeg: finiteNumber('lambdaNeg', score.lambdaNeg ?? 2, { above: 0 }),
    klMax: finiteNumber('klMax', score.klMax ?? Infinity, { above: 0, unbounded: true }),
    ...ratioLevel(kind, score),
  };
}

/** Scores that can be of any ratio. */
const OF_ANY_LEVEL: readonly RatioScoreKind[] = ['ratio', 'clippedRatio', 'stoppedRatio', 'softGate'];

/** Of what the ratio of a score is, or that which multiplies an estimate of KL. */
function ratioLevel(kind: RatioScoreKind, score: RatioScore) {
  const klWeighted = oneOf('klWeight', score.klWeight ?? 'none', ['none', 'ratio']) === 'ratio';
  const estimates = KL_ESTIMATORS.includes(kind as KlEstimator);
  if (klWeighted && !estimates) throw badArgument('ERR_RANGE', 'klWeight', `'none' with ${kind}`, "'ratio'");
  const ofSequence = kind === 'sequenceRatio';
  const level = oneOf('ratioLevel', score.ratioLevel ?? (ofSequence ? 'sequence' : 'token'), RATIO_LEVELS);
  if (ofSequence && level === 'token')
    throw badArgument('ERR_RANGE', 'ratioLevel', "'sequence' or 'sum' with sequenceRatio", "'token'");
  if (level !== 'token' && !klWeighted && !ofSequence && !OF_ANY_LEVEL.includes(kind))
    throw badArgument(
      'ERR_RANGE',
      'ratioLevel',
      `'token' with ${kind}${estimates ? ' without klWeight' : ''}`,
      `'${level}'`,
    );
  return { klWeighted, level: RATIO_LEVEL_CODES[level] };
}

/**
 * Where the clipped ratio stops: at 1 + epsilonHigh on the positive side, at ratioMax on the negative one. TRL's objective
 * min(min(r, delta) A, clip(r) A) is min(r, delta, 1 + epsilon) A for A > 0; for A < 0 it caps r at delta where that is
 * beyond the clip, else at the clip itself.
 */
function clipBounds({ dualClip, delta }: RatioScore, epsilonHigh: number) {
  const cap = dualClip === undefined ? Infinity : finiteNumber('dualClip', dualClip, { min: 1, unbounded: true });
  const bound = delta === undefined ? Infinity : finiteNumber('delta', delta, { above: 0, unbounded: true });
  return { epsilonHigh: Math.min(epsilonHigh, bound - 1), ratioMax: Math.min(cap, Math.max(bound, 1 + epsilonHigh)) };
}

/** Neither the geometric ratio nor one of a sum has a term per token that a weight could multiply. */
export function rejectTokenWeights({ kind, level }: ScoreParameters, name: string): void {
  const refused = (score: string) =>
    badArgument('ERR_RANGE', name, `weights per sequence with ${score}`, 'weights per token');
  if (kind === RATIO_SCORE_CODES.geometricRatio) throw refused('geometricRatio');
  if (level === RATIO_LEVEL_CODES.sum && kind < RATIO_SCORE_CODES.k1 && kind !== RATIO_SCORE_CODES.stoppedRatio)
    throw refused("ratioLevel 'sum'");
}

/** Whether a score is a mean of terms that each depend on one token. */
export function isTokenMean({ kind, level }: ScoreParameters): boolean {
  const wholes: readonly number[] = [RATIO_SCORE_CODES.geometricRatio, RATIO_SCORE_CODES.gammaWeight];
  return level === RATIO_LEVEL_CODES.token && !wholes.includes(kind);
}

/** Of what the ratio of a loss's score is. */
export function ratioLevelOf(score: 'logLikelihood' | { kind: 'logLikelihood' } | RatioScore): RatioLevel {
  if (score === 'logLikelihood' || score.kind === 'logLikelihood') return 'token';
  if (score.kind === 'geometricRatio') return 'sequence';
  return score.ratioLevel ?? (score.kind === 'sequenceRatio' ? 'sequence' : 'token');
}
