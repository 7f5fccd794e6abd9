// Defines the ratio scores and KL estimators (spec sections 3 and 4). See native/ops/ratio_scores.h.
import {
  RATIO_LEVEL_CODES,
  RATIO_SCORE_CODES,
  type RatioScoresBackwardArguments,
  type RatioScoresForwardArguments,
  type TokenTerm,
} from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';
import { isUnmasked } from './sequences.js';

const LOG_RATIO_LIMIT = 20;

type Clip = 'none' | 'low' | 'high';

/** A value, its derivative, and which bound replaced it. */
interface Term {
  value: number;
  derivative: number;
  clip: Clip;
}

const term = (value: number, derivative: number, clip: Clip = 'none'): Term => ({ value, derivative, clip });

/** The one-sided clip: a positive side looks only at the upper bound, a negative one only at the lower (and its cap). */
function clipOneSided(value: number, derivative: number, side: number, low: number, high: number): Term {
  if (side > 0 && value > high) return term(high, 0, 'high');
  if (side < 0 && value < low) return term(low, 0, 'low');
  return term(value, derivative);
}

function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** What the rules of a score depend on. */
type Rules = Omit<TokenTerm, 'gradScores'>;

/** What a token's term depends on; or a sequence's, then with its ratio and its mean log-prob. */
interface Token {
  d: number; // the log-ratio, clamped
  side: number;
  logProb: number;
  oldLogProb: number;
}

/** Scores in which what multiplies a log-prob is a constant. */
const HELD: readonly number[] = [
  RATIO_SCORE_CODES.stoppedRatio,
  RATIO_SCORE_CODES.trustRegionTv,
  RATIO_SCORE_CODES.trustRegionKl,
  RATIO_SCORE_CODES.gammaWeight,
];

/** A term of the mean, and its derivative by the log-ratio d (HELD: by the log-prob). */
function tokenTerm(args: Rules, token: Token): Term {
  const { epsilonLow, epsilonHigh } = args;
  const { d, side, logProb } = token;
  const ratio = Math.exp(d);
  switch (args.kind) {
    case RATIO_SCORE_CODES.ratio:
      return term(ratio, ratio);
    case RATIO_SCORE_CODES.clippedRatio:
      if (side < 0 && ratio > args.ratioMax) return term(args.ratioMax, 0, 'high');
      return clipOneSided(ratio, ratio, side, 1 - epsilonLow, 1 + epsilonHigh);
    case RATIO_SCORE_CODES.geometricRatio:
      return clipOneSided(d, 1, side, -epsilonLow, epsilonHigh);
    case RATIO_SCORE_CODES.stoppedRatio: {
      const weight = Math.min(Math.max(ratio, args.ratioMin), args.ratioMax);
      return term(weight * logProb, weight, ratio > args.ratioMax ? 'high' : ratio < args.ratioMin ? 'low' : 'none');
    }
    case RATIO_SCORE_CODES.softGate: {
      const tau = side > 0 ? args.tauPos : args.tauNeg;
      const gate = sigmoid(tau * (ratio - 1));
      return term((4 / tau) * gate, 4 * gate * sigmoid(-tau * (ratio - 1)) * ratio);
    }
    case RATIO_SCORE_CODES.trustRegionTv:
    case RATIO_SCORE_CODES.trustRegionKl: {
      const clip = leftTrustRegion(args, token);
      const weight = clip === 'none' ? Math.min(ratio, args.ratioMax) : 0;
      return term(weight * logProb, weight, clip);
    }
    case RATIO_SCORE_CODES.gammaWeight: {
      const [k, lambda] = side >= 0 ? [args.kPos, args.lambdaPos] : [args.kNeg, args.lambdaNeg];
      const weight = Math.exp(lambda + k * d - lambda * ratio);
      return term(weight * logProb, weight);
    }
    case RATIO_SCORE_CODES.logRatio:
      return term(d, 1);
    default:
      return estimate(args, d);
  }
}

/** DPPO: through which bound a token has left the trust region. For the KL, log-probs above 0 are 0. */
function leftTrustRegion({ kind, epsilonLow, epsilonHigh }: Rules, { side, logProb, oldLogProb }: Token): Clip {
  const most = kind === RATIO_SCORE_CODES.trustRegionTv ? 700 : 0;
  const log = Math.max(Math.min(logProb, most), -700);
  const oldLog = Math.max(Math.min(oldLogProb, most), -700);
  const moved =
    kind === RATIO_SCORE_CODES.trustRegionTv
      ? Math.exp(log) - Math.exp(oldLog)
      : (log < oldLog ? -1 : 1) * binaryKl(oldLog, log);
  if (side > 0) return moved > epsilonHigh ? 'high' : 'none';
  return moved < -epsilonLow ? 'low' : 'none';
}

/** The KL of (e^q, 1 - e^q) from (e^p, 1 - e^p). */
function binaryKl(q: number, p: number): number {
  const rest = -Math.expm1(q);
  const other = rest === 0 ? 0 : rest * (Math.log(rest) - Math.log(-Math.expm1(p)));
  return Math.exp(q) * (q - p) + other;
}

/** An estimate of KL, at most klMax; its derivative is then 0, unless it is k2's for another estimate. */
function estimate({ kind, klMax }: Rules, d: number): Term {
  const capped = (value: number, derivative: number) => (value > klMax ? term(klMax, 0) : term(value, derivative));
  switch (kind) {
    case RATIO_SCORE_CODES.k2:
      return capped((d * d) / 2, d);
    case RATIO_SCORE_CODES.k3:
      return capped(Math.expm1(-d) + d, -Math.expm1(-d));
    case RATIO_SCORE_CODES['k1+']:
      return term(Math.min(d, klMax), d);
    case RATIO_SCORE_CODES['k3+']:
      return term(Math.min(Math.expm1(-d) + d, klMax), d);
    case RATIO_SCORE_CODES.abs:
      return capped(Math.abs(d), Math.sign(d));
    default: // k1
      return capped(d, 1);
  }
}

function sideOf(args: Rules, i: number, t: number): number {
  return (args.sides ? args.sides[i] : args.tokenWeights?.[t]) ?? 0;
}

interface LogRatio {
  value: number;
  clamped: boolean;
}

function clamp(logRatio: number): LogRatio {
  const value = Math.min(Math.max(logRatio, -LOG_RATIO_LIMIT), LOG_RATIO_LIMIT);
  return { value, clamped: value !== logRatio };
}

/** A log-ratio to the policy that sampled. */
function samplerLogRatio({ samplerLogProbs }: Rules, t: number, logProb: number): LogRatio {
  if (!samplerLogProbs || samplerLogProbs[t] === logProb) return clamp(0); // equal infinities are no difference
  return clamp(logProb - samplerLogProbs[t]);
}

/** Whether a score is of the ratio of its sequence. */
function onSequenceRatio({ kind, level }: Rules): boolean {
  if (kind === RATIO_SCORE_CODES.gammaWeight) return true;
  return level !== RATIO_LEVEL_CODES.token && kind < RATIO_SCORE_CODES.k1;
}

/** The term of token t, of sequence i, without its weight; 0 is its derivative where no gradient flows. */
function scoreToken(args: Rules, i: number, t: number, logProb: number): Term & { logRatio: number } {
  const oldLogProb = args.oldLogProbs?.[t] ?? logProb;
  const logRatio = clamp(args.oldLogProbs ? logProb - oldLogProb : 0);
  const d = logRatio.value;
  const own = onSequenceRatio(args)
    ? term(d, 1)
    : tokenTerm(args, { d, side: sideOf(args, i, t), logProb, oldLogProb });
  // Where the weight is a constant, the clamp on d does not stop the log-prob's own gradient.
  const derivative = !logRatio.clamped || HELD.includes(args.kind) ? own.derivative : 0;
  const { value, clip } = own;
  if (!args.klWeighted || args.level !== RATIO_LEVEL_CODES.token) return { value, derivative, clip, logRatio: d };
  const sampler = samplerLogRatio(args, t, logProb);
  const ratio = Math.exp(sampler.value);
  const through = sampler.clamped ? 0 : value * ratio;
  return { value: value * ratio, derivative: derivative * ratio + through, clip, logRatio: d };
}

/** The derivative of a sum of token terms by the log-prob of token t, before the division by the sequence's length. */
export function tokenDerivative(args: Rules, i: number, t: number, logProb: number): number {
  return (args.tokenWeights?.[t] ?? 1) * scoreToken(args, i, t, logProb).derivative;
}

/** A ratio of a sequence by its logarithm, and the derivative of that by each log-ratio. */
interface SequenceRatio {
  log: number;
  share: number;
}

/** From the mean log-ratio, or their sum. */
function sequenceRatio({ level }: Rules, sum: number, count: number): SequenceRatio {
  if (level === RATIO_LEVEL_CODES.sequence) return { log: sum / count, share: 1 / count };
  const logRatio = clamp(sum);
  return { log: logRatio.value, share: logRatio.clamped ? 0 : 1 };
}

const LEAST_LOG_WEIGHT = Math.log(1e-8);

/** That of a score. VESPO's includes the log-ratios of the old policy to the one that sampled. */
function scoreRatio(args: RatioScoresForwardArguments, own: readonly number[], sum: number): SequenceRatio {
  if (args.kind !== RATIO_SCORE_CODES.gammaWeight) return sequenceRatio(args, sum, Math.max(own.length, 1));
  const { logProbs, oldLogProbs } = args;
  const further = own.reduce((total, t) => total + samplerLogRatio(args, t, (oldLogProbs ?? logProbs)[t]).value, 0);
  return { log: Math.max(clamp(sum + further).value, LEAST_LOG_WEIGHT), share: 0 };
}

interface SequenceSums {
  value: number;
  none: number;
  low: number;
  high: number;
}

/** A score of the sequence's ratio, f(S), with weights its token form: the mean of w_t * f(S). `sum` is that of the log-ratios. */
function ratioOfSequence(args: RatioScoresForwardArguments, i: number, own: readonly number[], sum: number) {
  const { logProbs, tokenWeights, scoreGrads } = args;
  const count = Math.max(own.length, 1);
  const { log, share } = scoreRatio(args, own, sum);
  const factor = HELD.includes(args.kind) ? 1 / count : share;
  const of = (side: number, logProb: number) => tokenTerm(args, { d: log, side, logProb, oldLogProb: 0 });
  const sums: SequenceSums = { value: 0, none: 0, low: 0, high: 0 };
  if (!tokenWeights) {
    const mean = own.reduce((total, t) => total + logProbs[t], 0) / count;
    const { value, derivative, clip } = of(args.sides?.[i] ?? 0, mean);
    for (const t of own) scoreGrads[t] *= derivative * factor;
    return { ...sums, value, [clip]: own.length };
  }
  for (const t of own) {
    const { value, derivative, clip } = of(sideOf(args, i, t), logProbs[t]);
    sums.value += (tokenWeights[t] * value) / count;
    sums[clip]++;
    scoreGrads[t] *= tokenWeights[t] * derivative * factor;
  }
  return sums;
}

/** An estimate of KL times the ratio of its sequence: the gradient flows through both. Returns the score. */
function timesSequenceRatio(args: RatioScoresForwardArguments, own: readonly number[], mean: number): number {
  const { logProbs, scoreGrads } = args;
  const sum = own.reduce((total, t) => total + samplerLogRatio(args, t, logProbs[t]).value, 0);
  const { log, share } = sequenceRatio(args, sum, Math.max(own.length, 1));
  const ratio = Math.exp(log);
  for (const t of own) {
    const through = samplerLogRatio(args, t, logProbs[t]).clamped ? 0 : mean * ratio * share;
    scoreGrads[t] = (scoreGrads[t] * ratio) / own.length + through;
  }
  return mean * ratio;
}

function unmaskedIn({ mask, cuSeqlens }: RatioScoresForwardArguments, i: number): number[] {
  const own: number[] = [];
  for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) if (isUnmasked(mask, t)) own.push(t);
  return own;
}

/** The score of a sequence from its terms, whose derivatives are in scoreGrads; what a bound replaced is in `sums`. */
function scoreOf(args: RatioScoresForwardArguments, own: readonly number[], sums: SequenceSums): number {
  const mean = sums.value / Math.max(own.length, 1);
  if (args.klWeighted && args.level !== RATIO_LEVEL_CODES.token) return timesSequenceRatio(args, own, mean);
  const isGeometric = args.kind === RATIO_SCORE_CODES.geometricRatio;
  for (const t of own) args.scoreGrads[t] *= (isGeometric ? Math.exp(mean) : 1) / own.length;
  return isGeometric ? Math.exp(mean) : mean;
}

function scoreSequence(args: RatioScoresForwardArguments, i: number): void {
  const { logProbs, cuSeqlens, scoreGrads, tokenWeights } = args;
  const own = unmaskedIn(args, i);
  let sums: SequenceSums = { value: 0, none: 0, low: 0, high: 0 };
  const stats = [0, 0, 0, 0];
  scoreGrads.fill(0, cuSeqlens[i], cuSeqlens[i + 1]);
  for (const t of own) {
    const { value, derivative, clip, logRatio } = scoreToken(args, i, t, logProbs[t]);
    const weight = onSequenceRatio(args) ? 1 : (tokenWeights?.[t] ?? 1);
    sums.value += weight * value;
    sums[clip]++;
    scoreGrads[t] = weight * derivative;
    const ratio = Math.exp(logRatio);
    stats[0] += ratio;
    stats[1] += ratio * ratio;
    stats[2] += logRatio;
    stats[3] = Math.max(stats[3], ratio);
  }
  if (onSequenceRatio(args)) sums = ratioOfSequence(args, i, own, sums.value);
  else sums.value = scoreOf(args, own, sums);
  args.scores[i] = sums.value;
  args.tokenCounts[i] = own.length;
  args.clippedLow[i] = sums.low;
  args.clippedHigh[i] = sums.high;
  args.ratioStats?.set(stats, 4 * i);
}

export function* ratioScoresForward(args: RatioScoresForwardArguments): Sliced<void> {
  for (let i = 0; i < args.sequences; i++) {
    yield PAUSE;
    scoreSequence(args, i);
  }
}

export function* ratioScoresBackward(args: RatioScoresBackwardArguments): Sliced<void> {
  const { gradScores, scoreGrads, cuSeqlens, gradLogProbs, accumulate } = args;
  for (let i = 0; i < args.sequences; i++) {
    yield PAUSE;
    for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) {
      gradLogProbs[t] = (accumulate ? gradLogProbs[t] : 0) + gradScores[i] * scoreGrads[t];
    }
  }
}
