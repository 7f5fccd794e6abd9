// Defines the ratio scores and KL estimators (spec sections 3 and 4). See native/ops/ratio_scores.h.
import {
  RATIO_SCORE_CODES,
  type RatioScoresBackwardArguments,
  type RatioScoresForwardArguments,
  type TokenTerm,
} from '../kernels.js';
import { PAUSE, type Sliced } from '../slices.js';
import { countUnmasked, isUnmasked } from './sequences.js';

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

/** A token's term of the mean, and its derivative by the log-ratio d (kind stoppedRatio: by the log-prob). */
function tokenTerm(args: Rules, d: number, side: number, logProb: number): Term {
  const { epsilonLow, epsilonHigh } = args;
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
    case RATIO_SCORE_CODES.k2:
      return term((d * d) / 2, d);
    case RATIO_SCORE_CODES.k3:
      return term(Math.expm1(-d) + d, -Math.expm1(-d));
    default: // sequenceRatio and k1: the mean log-ratio
      return term(d, 1);
  }
}

/** The score from the mean of the terms, and the factor on every token's derivative. */
function sequenceScore(args: RatioScoresForwardArguments, mean: number, side: number): Term {
  if (args.kind === RATIO_SCORE_CODES.geometricRatio) return term(Math.exp(mean), Math.exp(mean));
  if (args.kind === RATIO_SCORE_CODES.sequenceRatio) {
    const ratio = Math.exp(mean);
    return clipOneSided(ratio, ratio, side, 1 - args.epsilonLow, 1 + args.epsilonHigh);
  }
  return term(mean, 1);
}

function sideOf(args: Rules, i: number, t: number): number {
  return (args.sides ? args.sides[i] : args.tokenWeights?.[t]) ?? 0;
}

/** The term of token t, of sequence i, without its weight; 0 is its derivative where the log-ratio is clamped. */
function scoreToken(args: Rules, i: number, t: number, logProb: number): Term & { logRatio: number } {
  const given = args.oldLogProbs ? logProb - args.oldLogProbs[t] : 0;
  const logRatio = Math.min(Math.max(given, -LOG_RATIO_LIMIT), LOG_RATIO_LIMIT);
  const { value, derivative, clip } = tokenTerm(args, logRatio, sideOf(args, i, t), logProb);
  // The stopped ratio's weight is a constant: the clamp on d does not stop the log-prob's own gradient.
  const flows = logRatio === given || args.kind === RATIO_SCORE_CODES.stoppedRatio;
  return { value, derivative: flows ? derivative : 0, clip, logRatio };
}

/** The derivative of a sum of token terms by the log-prob of token t, before the division by the sequence's length. */
export function tokenDerivative(args: Rules, i: number, t: number, logProb: number): number {
  return (args.tokenWeights?.[t] ?? 1) * scoreToken(args, i, t, logProb).derivative;
}

/** GSPO's token form: mean of w_t * clip(S), whose derivative by each log-prob is w_t * S / n where not clipped. */
function tokenForm(args: RatioScoresForwardArguments, i: number, ratio: number, count: number): SequenceSums {
  const sums: SequenceSums = { value: 0, none: 0, low: 0, high: 0 };
  for (let t = args.cuSeqlens[i]; t < args.cuSeqlens[i + 1]; t++) {
    if (!isUnmasked(args.mask, t)) continue;
    const weight = args.tokenWeights![t];
    const { value, derivative, clip } = clipOneSided(
      ratio,
      ratio,
      sideOf(args, i, t),
      1 - args.epsilonLow,
      1 + args.epsilonHigh,
    );
    sums.value += (weight * value) / count;
    sums[clip]++;
    args.scoreGrads[t] *= (weight * derivative) / count;
  }
  return sums;
}

interface SequenceSums {
  value: number;
  none: number;
  low: number;
  high: number;
}

function scoreSequence(args: RatioScoresForwardArguments, i: number): void {
  const { logProbs, mask, cuSeqlens, scoreGrads, kind, tokenWeights } = args;
  const [begin, end] = [cuSeqlens[i], cuSeqlens[i + 1]];
  const isTokenForm = kind === RATIO_SCORE_CODES.sequenceRatio && tokenWeights !== undefined;
  const count = countUnmasked(mask, begin, end);
  let sums: SequenceSums = { value: 0, none: 0, low: 0, high: 0 };
  const stats = [0, 0, 0, 0];
  for (let t = begin; t < end; t++) {
    scoreGrads[t] = 0;
    if (!isUnmasked(mask, t)) continue;
    const { value, derivative, clip, logRatio } = scoreToken(args, i, t, logProbs[t]);
    const weight = isTokenForm ? 1 : (tokenWeights?.[t] ?? 1);
    sums.value += weight * value;
    sums[clip]++;
    scoreGrads[t] = weight * derivative;
    const ratio = Math.exp(logRatio);
    stats[0] += ratio;
    stats[1] += ratio * ratio;
    stats[2] += logRatio;
    stats[3] = Math.max(stats[3], ratio);
  }
  const mean = sums.value / Math.max(count, 1);
  if (isTokenForm) {
    sums = tokenForm(args, i, Math.exp(mean), Math.max(count, 1));
  } else {
    const score = sequenceScore(args, mean, args.sides?.[i] ?? 0);
    for (let t = begin; t < end; t++) scoreGrads[t] *= score.derivative / Math.max(count, 1);
    if (score.clip !== 'none') sums[score.clip] = count;
    sums.value = score.value;
  }
  args.scores[i] = sums.value;
  args.tokenCounts[i] = count;
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
