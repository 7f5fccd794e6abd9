import { gather } from '../groups.js';
import type { CheckedBatch } from '../objectives/objective.js';
import { clamped, importance } from '../objectives/rollout-correction.js';
import { finiteResult } from '../overflow.js';
import type { Ranks } from '../run/ranks.js';
import type { Task } from '../run/task.js';
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
  /** How often the ranks exchanged something; with `parallel` only, as the next one. */
  exchanges?: number;
  /** How many float64 numbers this rank sent. */
  exchangedNumbers?: number;
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
  rejected: RejectionCounts | undefined;
  clipCovTokens: number | undefined; // that clipCov took out
}

/** The largest numbers of a batch, of which that of all ranks is the largest; all other numbers are sums. */
const LARGEST = ['ratioMax', 'rolloutLargest'] as const;

/** Numbers that the metrics of a batch follow from, and those of several ranks from the sums of theirs. */
type Sums = ReturnType<typeof newSums>;

const newSums = () => ({
  loss: 0,
  tokens: 0,
  nonFinite: 0,
  low: 0,
  high: 0,
  kl: 0,
  entropy: 0,
  clipCov: 0,
  ...{ ratios: 0, squares: 0, logRatios: 0, ratioMax: 0 },
  ...{ positive: 0, negative: 0, positives: 0, sequences: 0, rewards: 0 },
  ...{ unmasked: 0, rejected: 0, rejectedSequences: 0 },
  ...{ rolloutTokens: 0, rolloutSum: 0, rolloutAbsolute: 0, rolloutLargest: 0, rolloutWeights: 0, rolloutSquares: 0 },
});

/**
 * The loss and the metrics of the whole batch, from this rank's part of the loss; all metrics but those that `Further` has no data for.
 * This is what ranks exchange last.
 */
export function* batchMetrics(
  checked: CheckedBatch,
  measured: Measured,
  further: Further,
  loss: number,
): Task<{ loss: number; metrics: Omit<Metrics, GroupMetric | RewardMetric> }> {
  const { ranks } = checked.whole;
  const own = yield* sumsOf(checked, measured, further, loss);
  const sums = ranks ? yield* overRanks(ranks, own) : own;
  const { clippedLow, clippedHigh, ratioStats, klScores, entropy } = measured;
  const { differences, rejected, clipCovTokens } = further;
  const { tokens } = sums;
  const metrics: Partial<Metrics> & { tokens: number; nonFiniteTokens: number } = {
    tokens,
    nonFiniteTokens: sums.nonFinite,
  };
  const { rewards, cuGroups, groupOrder } = checked.whole;
  if (rewards && cuGroups) {
    const ordered = groupOrder ? yield* gather(rewards, groupOrder) : rewards;
    Object.assign(metrics, yield* groupMetrics(cuGroups, ordered, checked.positiveThreshold));
  }
  if (rewards) Object.assign(metrics, rewardMetrics(sums));
  if (clippedLow && clippedHigh) {
    Object.assign(metrics, clipFractions(ratio(sums.low, tokens), ratio(sums.high, tokens)));
  }
  if (ratioStats) Object.assign(metrics, ratioMetrics(sums, tokens));
  if (clipCovTokens !== undefined) metrics.clipCovFraction = ratio(sums.clipCov, tokens);
  if (rejected) Object.assign(metrics, rejectionMetrics(sums, checked.whole.sequences));
  if (klScores) metrics.kl = ratio(sums.kl, tokens);
  if (entropy) metrics.entropy = ratio(sums.entropy, tokens);
  if (differences) Object.assign(metrics, rolloutMetrics(sums));
  return { loss: sums.loss, metrics };
}

/** The sums of this rank. */
function* sumsOf(
  checked: CheckedBatch,
  { nonFinite, scores, tokenCounts, clippedLow, clippedHigh, ratioStats, klScores, entropy }: Measured,
  { differences, rejected, clipCovTokens = 0 }: Further,
  loss: number,
): Sliced<Sums> {
  const sums: Sums = Object.assign(newSums(), { loss, nonFinite: nonFinite[0], clipCov: clipCovTokens }, rejected);
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) sums.tokens += tokenCounts[i];
    if (clippedLow) for (let i = begin; i < end; i++) sums.low += clippedLow[i];
    if (clippedHigh) for (let i = begin; i < end; i++) sums.high += clippedHigh[i];
    if (klScores) for (let i = begin; i < end; i++) sums.kl += klScores[i] * tokenCounts[i];
  };
  if (!atOnceIfShort(scores.length, work)) yield* slices(scores.length, work);
  const { rewards, positiveThreshold } = checked;
  if (rewards) yield* addRewards(sums, scores, rewards, positiveThreshold);
  if (ratioStats) Object.assign(sums, yield* ratioSums(ratioStats));
  if (entropy) sums.entropy = yield* total(entropy); // 0 where a token does not count
  if (differences) yield* addDifferences(sums, differences);
  return sums;
}

/** Those of all ranks. */
function* overRanks(ranks: Ranks, own: Sums): Task<Sums> {
  const names = Object.keys(own) as (keyof Sums)[];
  const parts = yield* ranks.gather(names.map((name) => own[name]));
  ranks.end();
  const sums = newSums();
  for (const part of parts) {
    names.forEach((name, k) => {
      const isLargest = (LARGEST as readonly string[]).includes(name);
      sums[name] = isLargest ? Math.max(sums[name], part[k]) : sums[name] + part[k];
    });
  }
  return sums;
}

function clipFractions(clipFractionLow: number, clipFractionHigh: number) {
  return { clipFractionLow, clipFractionHigh, clipFraction: clipFractionLow + clipFractionHigh };
}

/** From the sums of each sequence, of r, of r^2, of d, and its largest r: those of the batch. */
export function* ratioSums(stats: Float64Array) {
  const sums = { ratios: 0, squares: 0, logRatios: 0, ratioMax: 0 };
  const work = (begin: number, end: number) => {
    for (let i = 4 * begin; i < 4 * end; i += 4) {
      sums.ratios += stats[i];
      sums.squares += stats[i + 1];
      sums.logRatios += stats[i + 2];
      sums.ratioMax = Math.max(sums.ratioMax, stats[i + 3]);
    }
  };
  if (!atOnceIfShort(stats.length / 4, work)) yield* slices(stats.length / 4, work);
  return sums;
}

/** The metrics of those sums. */
export function ratioMetrics(
  { ratios, squares, logRatios, ratioMax }: Pick<Sums, 'ratios' | 'squares' | 'logRatios' | 'ratioMax'>,
  tokens: number,
) {
  return {
    ratioMean: ratio(ratios, tokens),
    ratioMax,
    policyKl: ratio(0 - logRatios, tokens),
    effectiveSampleSize: ratio(ratios * ratios, tokens * squares),
  };
}

/** Tokens that do not count have a difference of 0; those without a value, NaN. */
function* addDifferences(sums: Sums, differences: Float64Array): Sliced<void> {
  const masked = differences.length - sums.tokens; // whose e^0 is taken off
  Object.assign(sums, { rolloutTokens: sums.tokens, rolloutWeights: -masked, rolloutSquares: -masked });
  yield* slices(differences.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      const difference = differences[t];
      if (Number.isNaN(difference)) {
        sums.rolloutTokens--;
        continue;
      }
      const weight = importance(difference);
      sums.rolloutSum -= clamped(difference); // equal and opposite infinities would add up to NaN
      sums.rolloutAbsolute += UNIT * Math.abs(difference);
      sums.rolloutLargest = Math.max(sums.rolloutLargest, Math.abs(difference));
      sums.rolloutWeights += weight;
      sums.rolloutSquares += weight * weight;
    }
  });
}

function rolloutMetrics(sums: Sums) {
  const { rolloutTokens: tokens, rolloutWeights: weights, rolloutSquares: squares } = sums;
  return {
    rolloutLogProbDiffMean: ratio(sums.rolloutAbsolute, tokens) / UNIT,
    rolloutLogProbDiffMax: sums.rolloutLargest,
    rolloutKl: ratio(sums.rolloutSum, tokens),
    rolloutEffectiveSampleSize: ratio(weights * weights, tokens * squares),
  };
}

/** Tokens that would count, those of them that are rejected, and sequences that they are of. */
type RejectionCounts = Pick<Sums, 'unmasked' | 'rejected' | 'rejectedSequences'>;

/** Of a batch and its mask without the tokens that are rejected. */
export function* rejectionCounts({ cuSeqlens, mask }: CheckedBatch, kept: Uint8Array): Sliced<RejectionCounts> {
  let [unmasked, rejected, rejectedSequences, last] = [0, 0, 0, -1];
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) {
      if (mask?.[t] === 0) continue;
      unmasked++;
      if (kept[t] !== 0) continue;
      rejected++;
      if (i !== last) rejectedSequences++;
      last = i;
    }
  });
  return { unmasked, rejected, rejectedSequences };
}

function rejectionMetrics({ unmasked, rejected, rejectedSequences }: RejectionCounts, sequences: number) {
  return {
    rejectedFraction: ratio(rejected, unmasked),
    rejectedSequenceFraction: ratio(rejectedSequences, sequences),
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

function* addRewards(sums: Sums, scores: Float64Array, rewards: Float64Array, threshold: number): Sliced<void> {
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) {
      sums.rewards += UNIT * rewards[i];
      if (rewards[i] > threshold) {
        sums.positive += UNIT * scores[i];
        sums.positives++;
      } else {
        sums.negative += UNIT * scores[i];
      }
    }
  };
  if (!atOnceIfShort(scores.length, work)) yield* slices(scores.length, work);
  sums.sequences = scores.length;
}

function rewardMetrics({ positive, negative, positives, sequences, rewards }: Sums) {
  const negatives = sequences - positives;
  const positiveScoreMean = ratio(positive, positives) / UNIT;
  const negativeScoreMean = ratio(negative, negatives) / UNIT;
  const scoreGap = positives > 0 && negatives > 0 ? positiveScoreMean - negativeScoreMean : 0;
  return { positiveScoreMean, negativeScoreMean, scoreGap, rewardMean: ratio(rewards, sequences) / UNIT };
}
