import type { TokenLevel } from './forward.js';
import type { CheckedBatch, ObjectiveResult } from './loss.js';

/** What trainers log of a batch. A mean over nothing is 0. */
export interface Metrics {
  /** Tokens that count: unmasked and not skipped. */
  tokens: number;
  /** Tokens dropped by `onNonFinite: 'skip'`. */
  nonFiniteTokens: number;
  /** Groups with both a positive and a negative sequence: the ones that teach something. */
  contrastiveGroups: number;
  /** All other groups, empty ones included. */
  degenerateGroups: number;
  /** Mean score of the positive sequences. */
  positiveScoreMean: number;
  /** Mean score of the negative sequences. */
  negativeScoreMean: number;
  /** positiveScoreMean - negativeScoreMean; 0 unless there are both. */
  scoreGap: number;
  /** Fraction of tokens whose ratio the lower bound clipped; losses with a clip only. */
  clipFractionLow?: number;
  /** Fraction of tokens whose ratio the upper bound clipped; losses with a clip only. */
  clipFractionHigh?: number;
  /** Token mean of the KL estimate; with a KL penalty only. */
  kl?: number;
  /** Token mean of the entropy in nats; on request only. */
  entropy?: number;
}

function sum(values: Float64Array | Int32Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((total, value, i) => total + value * b[i], 0);
}

const ratio = (part: number, whole: number) => (whole === 0 ? 0 : part / whole);

export function batchMetrics(
  level: TokenLevel,
  { cuGroups, rewards, positiveThreshold }: CheckedBatch,
  { channel, kl }: ObjectiveResult,
  nonFiniteTokens: number,
): Metrics {
  const tokens = sum(channel.tokenCounts);
  const groups = cuGroups.length - 1;
  const contrastiveGroups = countContrastive(cuGroups, rewards, positiveThreshold);
  return {
    tokens,
    nonFiniteTokens,
    contrastiveGroups,
    degenerateGroups: groups - contrastiveGroups,
    ...scoreMeans(channel.scores, rewards, positiveThreshold),
    ...(channel.clippedLow && { clipFractionLow: ratio(sum(channel.clippedLow), tokens) }),
    ...(channel.clippedHigh && { clipFractionHigh: ratio(sum(channel.clippedHigh), tokens) }),
    ...(kl && { kl: ratio(dot(kl.scores, channel.tokenCounts), tokens) }),
    ...(level.entropy && { entropy: ratio(sum(level.entropy), tokens) }), // 0 where a token does not count
  };
}

function countContrastive(cuGroups: Int32Array, rewards: Float64Array, threshold: number): number {
  let count = 0;
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    let positives = 0;
    for (let i = cuGroups[g]; i < cuGroups[g + 1]; i++) positives += rewards[i] > threshold ? 1 : 0;
    if (positives > 0 && positives < cuGroups[g + 1] - cuGroups[g]) count++;
  }
  return count;
}

function scoreMeans(scores: Float64Array, rewards: Float64Array, threshold: number) {
  const totals = { positive: 0, negative: 0, positives: 0, negatives: 0 };
  for (let i = 0; i < scores.length; i++) {
    if (rewards[i] > threshold) {
      totals.positive += scores[i];
      totals.positives++;
    } else {
      totals.negative += scores[i];
      totals.negatives++;
    }
  }
  const positiveScoreMean = ratio(totals.positive, totals.positives);
  const negativeScoreMean = ratio(totals.negative, totals.negatives);
  const both = totals.positives > 0 && totals.negatives > 0;
  return { positiveScoreMean, negativeScoreMean, scoreGap: both ? positiveScoreMean - negativeScoreMean : 0 };
}
