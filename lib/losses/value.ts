// What a loss returns: what it is read from, and what is checked of it.
import type { PendingGradient } from '../levels/gradient.js';
import type { TokenLevel } from '../levels/token-level.js';
import { ownTokens, type Pieces } from '../levels/whole-sequences.js';
import type { CheckedBatch, ObjectiveResult } from '../objectives/objective.js';
import { finiteResults } from '../overflow.js';
import type { Sliced } from '../slices.js';
import { checkMetrics, type Metrics } from './metrics.js';

/** What every loss returns, besides the gradient. */
export interface LossValue {
  /** The loss, with all its terms. */
  loss: number;
  /** [N] sequence scores. */
  scores: Float64Array;
  /** [G] loss of each group, for objectives that have one. */
  groupLosses?: Float64Array;
  /** [N] advantages (or [T], where they are per token), for objectives that have them. */
  advantages?: Float64Array;
  /**
   * [T] with `perToken`: the policy term of each token before any aggregation, -A times its part of the score and all weights, and
   * with `klCov` its penalty; the weighted sum over sequences of its means is the loss without KL penalty and entropy bonus.
   */
  tokenLosses?: Float64Array;
  /** [T] log-probs, on request. */
  logProbs?: Float64Array;
  /** [T] entropies, on request. */
  entropy?: Float64Array;
  /** What trainers log. */
  metrics: Metrics;
}

/** Of finite batches and options, every number of a loss is finite, or beyond the range of a double. */
export function* checkValue(
  { loss, scores, groupLosses, tokenLosses, metrics }: LossValue,
  checked: CheckedBatch,
): Sliced<void> {
  const causes =
    'log-probs, rewards, advantages or coefficients are too large, or normalizer, maxLength or tau too small';
  yield* finiteResults({ scores, groupLosses, loss, tokenLosses }, causes);
  yield* checkMetrics(metrics, checked, causes);
}

/** Of a loss of sequences that are spread over ranks: of what is [T], this rank's tokens. */
export function* keepOwnTokens(value: LossValue, pieces: Pieces, advantagesPerToken: boolean): Sliced<void> {
  const { tokenLosses, logProbs, entropy, advantages } = value;
  if (tokenLosses) value.tokenLosses = yield* ownTokens(pieces, tokenLosses);
  if (logProbs) value.logProbs = yield* ownTokens(pieces, logProbs);
  if (entropy) value.entropy = yield* ownTokens(pieces, entropy);
  if (advantages && advantagesPerToken) value.advantages = yield* ownTokens(pieces, advantages);
}

/** Everything that the result of a loss is made of. */
export function outcomeArrays(
  { losses, channel, groupLosses, kl }: ObjectiveResult,
  level: TokenLevel,
  { badRows, upstream }: PendingGradient,
  logProbs: boolean,
) {
  const { scores, tokenCounts, clippedLow, clippedHigh, ratioStats } = channel;
  return {
    nonFinite: level.nonFinite,
    badRows,
    upstream,
    losses,
    scores,
    tokenCounts,
    clippedLow,
    clippedHigh,
    ratioStats,
    groupLosses,
    klScores: kl?.scores,
    entropy: level.entropy,
    logProbs: logProbs ? level.logProbs : undefined,
  };
}
