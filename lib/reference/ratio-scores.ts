// Defines the ratio scores and KL estimators (spec sections 3 and 4). See native/ops/ratio_scores.h.
import {
  RATIO_SCORE_CODES,
  type RatioScoresBackwardArguments,
  type RatioScoresForwardArguments,
} from '../backend/kernels.js';
import { countUnmasked, isUnmasked } from './sequences.js';
import type { Pauses } from './token-log-probs.js';

const LOG_RATIO_LIMIT = 20;

type Clip = 'none' | 'low' | 'high';

/** A value, its derivative, and which bound replaced it. */
interface Term {
  value: number;
  derivative: number;
  clip: Clip;
}

const term = (value: number, derivative: number, clip: Clip = 'none'): Term => ({ value, derivative, clip });

/** The one-sided clip: a positive side looks only at the upper bound, a negative one only at the lower. */
function clipOneSided(value: number, derivative: number, side: number, low: number, high: number): Term {
  if (side > 0 && value > high) return term(high, 0, 'high');
  if (side < 0 && value < low) return term(low, 0, 'low');
  return term(value, derivative);
}

function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** A token's term of the mean, and its derivative by the log-ratio d (kind stoppedRatio: by the log-prob). */
function tokenTerm(args: RatioScoresForwardArguments, d: number, side: number, logProb: number): Term {
  const { epsilonLow, epsilonHigh } = args;
  const ratio = Math.exp(d);
  switch (args.kind) {
    case RATIO_SCORE_CODES.ratio:
      return term(ratio, ratio);
    case RATIO_SCORE_CODES.clippedRatio:
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

function scoreSequence(args: RatioScoresForwardArguments, i: number): void {
  const { logProbs, oldLogProbs, mask, cuSeqlens, scoreGrads } = args;
  const [begin, end] = [cuSeqlens[i], cuSeqlens[i + 1]];
  const side = args.sides?.[i] ?? 0;
  const count = countUnmasked(mask, begin, end);
  const clipped = { none: 0, low: 0, high: 0 };
  let sum = 0;
  for (let t = begin; t < end; t++) {
    scoreGrads[t] = 0;
    if (!isUnmasked(mask, t)) continue;
    const logRatio = oldLogProbs ? logProbs[t] - oldLogProbs[t] : 0;
    const d = Math.min(Math.max(logRatio, -LOG_RATIO_LIMIT), LOG_RATIO_LIMIT);
    const { value, derivative, clip } = tokenTerm(args, d, side, logProbs[t]);
    sum += value;
    clipped[clip]++;
    // The stopped ratio's weight is a constant: the clamp on d does not stop the log-prob's own gradient.
    const flows = d === logRatio || args.kind === RATIO_SCORE_CODES.stoppedRatio;
    scoreGrads[t] = flows ? derivative : 0;
  }
  const score = sequenceScore(args, sum / Math.max(count, 1), side);
  const factor = score.derivative / Math.max(count, 1);
  for (let t = begin; t < end; t++) scoreGrads[t] *= factor;
  if (score.clip !== 'none') clipped[score.clip] = count;
  args.scores[i] = score.value;
  args.tokenCounts[i] = count;
  args.clippedLow[i] = clipped.low;
  args.clippedHigh[i] = clipped.high;
}

export function* ratioScoresForward(args: RatioScoresForwardArguments): Pauses {
  for (let i = 0; i < args.sequences; i++) {
    yield;
    scoreSequence(args, i);
  }
}

export function* ratioScoresBackward(args: RatioScoresBackwardArguments): Pauses {
  const { gradScores, scoreGrads, cuSeqlens, gradLogProbs, accumulate } = args;
  for (let i = 0; i < args.sequences; i++) {
    yield;
    for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) {
      gradLogProbs[t] = (accumulate ? gradLogProbs[t] : 0) + gradScores[i] * scoreGrads[t];
    }
  }
}
