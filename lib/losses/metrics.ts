import { gather } from '../groups.js';
import type { CheckedBatch } from '../objectives/objective.js';
import { clamped, importance } from '../objectives/rollout-correction.js';

/** What trainers log of a batch. A mean over nothing is 0. */
export interface Metrics {
  /** Tokens that count: unmasked and not skipped. */
  tokens: number;
  /** Tokens dropped by `onNonFinite: 'skip'`. */
  nonFiniteTokens: number;
  /** Groups with both a positive and a negative sequence: those with something to learn from. */
  contrastiveGroups: number;
  /** All other groups, empty ones included. */
  degenerateGroups: number;
  /** Mean score of the positive sequences. */
  positiveScoreMean: number;
  /** Mean score of the negative sequences. */
  negativeScoreMean: number;
  /** positiveScoreMean - negativeScoreMean; 0 unless there are both. */
  scoreGap: number;
  /** Mean of the rewards. */
  rewardMean: number;
  /** Fraction of the groups with sequences whose rewards are all equal: no estimator gives them an advantage. */
  zeroVarianceFraction: number;
  /** Fraction of tokens that the lower bound clipped; scores with a clip only. */
  clipFractionLow?: number;
  /** Fraction of tokens that the upper bound (or the dual clip) clipped; scores with a clip only. */
  clipFractionHigh?: number;
  /** clipFractionLow + clipFractionHigh. */
  clipFraction?: number;
  /** Token mean of r = exp(logProbs - oldLogProbs); scores on ratios only, as the next three. */
  ratioMean?: number;
  /** Largest r. */
  ratioMax?: number;
  /** Token mean of oldLogProbs - logProbs: the k1 estimate of KL from the behaviour policy. */
  policyKl?: number;
  /** (sum r)^2 / (tokens * sum r^2): 1 on-policy, towards 0 as few tokens carry all the weight. */
  effectiveSampleSize?: number;
  /** Token mean of the KL estimate; with a KL penalty only. */
  kl?: number;
  /** Token mean of the entropy in nats; on request, or with an entropy bonus. */
  entropy?: number;
  /** Token mean of |oldLogProbs - rolloutLogProbs|; for a batch with `rolloutLogProbs`, as the next three. */
  rolloutLogProbDiffMean?: number;
  /** Largest |oldLogProbs - rolloutLogProbs|. */
  rolloutLogProbDiffMax?: number;
  /** Token mean of rolloutLogProbs - oldLogProbs: the k1 estimate of KL from the inference engine's policy. */
  rolloutKl?: number;
  /** effectiveSampleSize of the uncorrected weights exp(oldLogProbs - rolloutLogProbs). */
  rolloutEffectiveSampleSize?: number;
}

/** Metrics of a batch with rewards and groups only. */
export type GroupMetric = 'contrastiveGroups' | 'degenerateGroups' | 'zeroVarianceFraction';
/** Metrics of a batch with rewards only. */
export type RewardMetric = 'positiveScoreMean' | 'negativeScoreMean' | 'scoreGap' | 'rewardMean';

/** What metrics are made of. */
interface Measured {
  nonFinite: Int32Array; // [1]
  scores: Float64Array; // [N]
  tokenCounts: Float64Array; // [N]
  clippedLow: Int32Array | undefined; // [N]
  clippedHigh: Int32Array | undefined; // [N]
  ratioStats: Float64Array | undefined; // [N, 4]
  klScores: Float64Array | undefined; // [N]
  entropy: Float64Array | undefined; // [T]
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

/** `differences`: [T] old - rollout log-probs. */
export function batchMetrics(
  checked: CheckedBatch,
  { nonFinite, scores, tokenCounts, clippedLow, clippedHigh, ratioStats, klScores, entropy }: Measured,
  differences: Float64Array | undefined,
): Omit<Metrics, GroupMetric | RewardMetric> {
  const tokens = sum(tokenCounts);
  const metrics: Partial<Metrics> & { tokens: number; nonFiniteTokens: number } = {
    tokens,
    nonFiniteTokens: nonFinite[0],
  };
  addRewardMetrics(metrics, scores, checked);
  if (clippedLow && clippedHigh) Object.assign(metrics, clipFractions(clippedLow, clippedHigh, tokens));
  if (ratioStats) Object.assign(metrics, ratioMetrics(ratioStats, tokens));
  if (klScores) metrics.kl = ratio(dot(klScores, tokenCounts), tokens);
  if (entropy) metrics.entropy = ratio(sum(entropy), tokens); // 0 where a token does not count
  if (differences) Object.assign(metrics, rolloutMetrics(differences, tokens));
  return metrics;
}

/** As far as the batch has rewards and groups. */
function addRewardMetrics(
  metrics: Partial<Metrics>,
  scores: Float64Array,
  { rewards, cuGroups, groupOrder, positiveThreshold }: CheckedBatch,
): void {
  if (!rewards) return;
  if (cuGroups) {
    const ordered = gather(rewards, groupOrder);
    const contrastiveGroups = countContrastive(cuGroups, ordered, positiveThreshold);
    metrics.contrastiveGroups = contrastiveGroups;
    metrics.degenerateGroups = cuGroups.length - 1 - contrastiveGroups;
    metrics.zeroVarianceFraction = zeroVariance(cuGroups, ordered);
  }
  Object.assign(metrics, scoreMeans(scores, rewards, positiveThreshold));
  metrics.rewardMean = ratio(sum(rewards), rewards.length);
}

function clipFractions(low: Int32Array, high: Int32Array, tokens: number) {
  const [clipFractionLow, clipFractionHigh] = [ratio(sum(low), tokens), ratio(sum(high), tokens)];
  return { clipFractionLow, clipFractionHigh, clipFraction: clipFractionLow + clipFractionHigh };
}

/** From the sums of each sequence: of r, of r^2, of d; and its largest r. */
function ratioMetrics(stats: Float64Array, tokens: number) {
  let [ratios, squares, logRatios, ratioMax] = [0, 0, 0, 0];
  for (let i = 0; i < stats.length; i += 4) {
    ratios += stats[i];
    squares += stats[i + 1];
    logRatios += stats[i + 2];
    ratioMax = Math.max(ratioMax, stats[i + 3]);
  }
  return {
    ratioMean: ratio(ratios, tokens),
    ratioMax,
    policyKl: ratio(0 - logRatios, tokens),
    effectiveSampleSize: ratio(ratios * ratios, tokens * squares),
  };
}

/** Tokens that do not count have a difference of 0; those without a value, NaN. */
function rolloutMetrics(differences: Float64Array, unmasked: number) {
  let [total, absolute, largest, tokens] = [0, 0, 0, unmasked];
  let [weights, squares] = [tokens - differences.length, tokens - differences.length]; // takes the masked ones' e^0 off
  for (const difference of differences) {
    if (Number.isNaN(difference)) {
      tokens--;
      continue;
    }
    const weight = importance(difference);
    total -= clamped(difference); // equal and opposite infinities would add up to NaN
    absolute += Math.abs(difference);
    largest = Math.max(largest, Math.abs(difference));
    weights += weight;
    squares += weight * weight;
  }
  return {
    rolloutLogProbDiffMean: ratio(absolute, tokens),
    rolloutLogProbDiffMax: largest,
    rolloutKl: ratio(total, tokens),
    rolloutEffectiveSampleSize: ratio(weights * weights, tokens * squares),
  };
}

/** Of the groups with sequences; empty ones are no groups of rollouts. */
function zeroVariance(cuGroups: Int32Array, rewards: Float64Array): number {
  let [equal, groups] = [0, 0];
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    const members = rewards.subarray(cuGroups[g], cuGroups[g + 1]);
    if (members.length === 0) continue;
    groups++;
    if (members.every((reward) => reward === members[0])) equal++;
  }
  return ratio(equal, groups);
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
