import { gather } from '../groups.js';
import type { CheckedBatch } from '../objectives/objective.js';
import { clamped, importance } from '../objectives/rollout-correction.js';
import { finiteResult } from '../overflow.js';
import { atOnceIfShort, findIndex, raggedSlices, type Sliced, slices, total } from '../slices.js';

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
  /** Token mean of r = exp(logProbs - oldLogProbs); for scores on ratios and batches with `oldLogProbs`, as the next three. */
  ratioMean?: number;
  /** Largest r. */
  ratioMax?: number;
  /** Token mean of oldLogProbs - logProbs: the k1 estimate of KL from the behaviour policy. */
  policyKl?: number;
  /** (sum r)^2 / (tokens * sum r^2): 1 on-policy, towards 0 as few tokens carry all the weight. */
  effectiveSampleSize?: number;
  /** Fraction of tokens that `clipCov` took out of the policy term; with that only. */
  clipCovFraction?: number;
  /** Fraction of the tokens that would count which `rolloutCorrection.reject` dropped; with that only, as the next one. */
  rejectedFraction?: number;
  /** Fraction of sequences of which it dropped a token, or all. */
  rejectedSequenceFraction?: number;
  /** Token mean of the KL estimate; with a KL penalty only. */
  kl?: number;
  /** Token mean of the entropy in nats; on request, or with an entropy bonus or `entropyQuantile`. */
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

/** Sums are taken in units of 2^32, which is exact: no sum of so many numbers leaves the range of a double. */
const UNIT = 2 ** -32;

const ratio = (part: number, whole: number) => (whole === 0 ? 0 : part / whole);

/** What more there may be. */
interface Further {
  differences: Float64Array | undefined; // [T] old - rollout log-probs
  rejected: Partial<Metrics> | undefined; // as rejectionMetrics has it
  clipCovTokens: number | undefined; // that clipCov took out
}

/** All but those that `Further` has no data for. */
export function* batchMetrics(
  checked: CheckedBatch,
  { nonFinite, scores, tokenCounts, clippedLow, clippedHigh, ratioStats, klScores, entropy }: Measured,
  { differences, rejected, clipCovTokens }: Further,
): Sliced<Omit<Metrics, GroupMetric | RewardMetric>> {
  let [tokens, low, high, kl] = [0, 0, 0, 0];
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) tokens += tokenCounts[i];
    if (clippedLow) for (let i = begin; i < end; i++) low += clippedLow[i];
    if (clippedHigh) for (let i = begin; i < end; i++) high += clippedHigh[i];
    if (klScores) for (let i = begin; i < end; i++) kl += klScores[i] * tokenCounts[i];
  };
  if (!atOnceIfShort(scores.length, work)) yield* slices(scores.length, work);
  const metrics: Partial<Metrics> & { tokens: number; nonFiniteTokens: number } = {
    tokens,
    nonFiniteTokens: nonFinite[0],
  };
  const { rewards, cuGroups, groupOrder, positiveThreshold } = checked;
  if (rewards && cuGroups) {
    const ordered = groupOrder ? yield* gather(rewards, groupOrder) : rewards;
    Object.assign(metrics, yield* groupMetrics(cuGroups, ordered, positiveThreshold));
  }
  if (rewards) Object.assign(metrics, yield* rewardMetrics(scores, rewards, positiveThreshold));
  if (clippedLow && clippedHigh) Object.assign(metrics, clipFractions(ratio(low, tokens), ratio(high, tokens)));
  if (ratioStats) Object.assign(metrics, yield* ratioMetrics(ratioStats, tokens));
  if (clipCovTokens !== undefined) metrics.clipCovFraction = ratio(clipCovTokens, tokens);
  if (rejected) Object.assign(metrics, rejected);
  if (klScores) metrics.kl = ratio(kl, tokens);
  if (entropy) metrics.entropy = ratio(yield* total(entropy), tokens); // 0 where a token does not count
  if (differences) Object.assign(metrics, yield* rolloutMetrics(differences, tokens));
  return metrics;
}

function clipFractions(clipFractionLow: number, clipFractionHigh: number) {
  return { clipFractionLow, clipFractionHigh, clipFraction: clipFractionLow + clipFractionHigh };
}

/** From the sums of each sequence: of r, of r^2, of d; and its largest r. */
export function* ratioMetrics(stats: Float64Array, tokens: number) {
  let [ratios, squares, logRatios, ratioMax] = [0, 0, 0, 0];
  const work = (begin: number, end: number) => {
    for (let i = 4 * begin; i < 4 * end; i += 4) {
      ratios += stats[i];
      squares += stats[i + 1];
      logRatios += stats[i + 2];
      ratioMax = Math.max(ratioMax, stats[i + 3]);
    }
  };
  if (!atOnceIfShort(stats.length / 4, work)) yield* slices(stats.length / 4, work);
  return {
    ratioMean: ratio(ratios, tokens),
    ratioMax,
    policyKl: ratio(0 - logRatios, tokens),
    effectiveSampleSize: ratio(ratios * ratios, tokens * squares),
  };
}

/** Tokens that do not count have a difference of 0; those without a value, NaN. */
function* rolloutMetrics(differences: Float64Array, unmasked: number) {
  let [sum, absolute, largest, tokens] = [0, 0, 0, unmasked];
  let [weights, squares] = [tokens - differences.length, tokens - differences.length]; // takes the masked ones' e^0 off
  yield* slices(differences.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      const difference = differences[t];
      if (Number.isNaN(difference)) {
        tokens--;
        continue;
      }
      const weight = importance(difference);
      sum -= clamped(difference); // equal and opposite infinities would add up to NaN
      absolute += UNIT * Math.abs(difference);
      largest = Math.max(largest, Math.abs(difference));
      weights += weight;
      squares += weight * weight;
    }
  });
  return {
    rolloutLogProbDiffMean: ratio(absolute, tokens) / UNIT,
    rolloutLogProbDiffMax: largest,
    rolloutKl: ratio(sum, tokens),
    rolloutEffectiveSampleSize: ratio(weights * weights, tokens * squares),
  };
}

/** Of a batch and its mask without the tokens that are rejected. */
export function* rejectionMetrics({ cuSeqlens, mask }: CheckedBatch, kept: Uint8Array): Sliced<Partial<Metrics>> {
  let [tokens, rejected, sequences, last] = [0, 0, 0, -1];
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) {
      if (mask?.[t] === 0) continue;
      tokens++;
      if (kept[t] !== 0) continue;
      rejected++;
      if (i !== last) sequences++;
      last = i;
    }
  });
  return {
    rejectedFraction: ratio(rejected, tokens),
    rejectedSequenceFraction: ratio(sequences, cuSeqlens.length - 1),
  };
}

/** Throws where a metric is not finite, unless it is one of log-probs that are infinite themselves. */
export function* checkMetrics(metrics: Metrics, checked: CheckedBatch, causes: string): Sliced<void> {
  for (const name in metrics) {
    const value = metrics[name as keyof Metrics];
    if (value === undefined || Number.isFinite(value)) continue;
    const given = name.startsWith('rollout') ? [checked.oldLogProbs, checked.rolloutLogProbs] : [];
    let infinite = false;
    for (const array of given) infinite ||= array !== undefined && (yield* hasInfinity(array));
    if (!infinite) finiteResult(`metrics.${name}`, value, causes);
  }
}

function* hasInfinity(values: Float64Array): Sliced<boolean> {
  return (yield* findIndex(values.length, (t) => Math.abs(values[t]) === Infinity)) !== -1;
}

/** Groups with both signs, and all others; of the groups with sequences, the fraction whose rewards are equal. */
function* groupMetrics(cuGroups: Int32Array, rewards: Float64Array, threshold: number) {
  const groups = cuGroups.length - 1;
  let [contrastive, equal, filled] = [0, 0, 0];
  let [positives, varies] = [0, false]; // in the group so far
  const work = (g: number, begin: number, end: number) => {
    const [first, last] = [cuGroups[g], cuGroups[g + 1]];
    if (first === last) return; // no group of rollouts
    if (begin === first) [positives, varies] = [0, false];
    for (let i = begin; i < end; i++) {
      if (rewards[i] > threshold) positives++;
      if (rewards[i] !== rewards[first]) varies = true;
    }
    if (end < last) return;
    filled++;
    if (!varies) equal++;
    if (positives > 0 && positives < last - first) contrastive++;
  };
  yield* raggedSlices(cuGroups, work);
  return {
    contrastiveGroups: contrastive,
    degenerateGroups: groups - contrastive,
    zeroVarianceFraction: ratio(equal, filled),
  };
}

function* rewardMetrics(scores: Float64Array, rewards: Float64Array, threshold: number) {
  let [positive, negative, positives, rewardSum] = [0, 0, 0, 0];
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) {
      rewardSum += UNIT * rewards[i];
      if (rewards[i] > threshold) {
        positive += UNIT * scores[i];
        positives++;
      } else {
        negative += UNIT * scores[i];
      }
    }
  };
  if (!atOnceIfShort(scores.length, work)) yield* slices(scores.length, work);
  const negatives = scores.length - positives;
  const positiveScoreMean = ratio(positive, positives) / UNIT;
  const negativeScoreMean = ratio(negative, negatives) / UNIT;
  const scoreGap = positives > 0 && negatives > 0 ? positiveScoreMean - negativeScoreMean : 0;
  return { positiveScoreMean, negativeScoreMean, scoreGap, rewardMean: ratio(rewardSum, rewards.length) / UNIT };
}
