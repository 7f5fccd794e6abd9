// The metrics of a batch from those of its parts: each with the weight that its definition means (docs/metrics.md).
import { badArgument, describe, isArray } from '../errors.js';
import type { Metrics } from '../losses/metrics.js';
import { type Numbers, numbers, type WholeNumbers, wholeNumbers } from '../number-lists.js';
import { atOnce } from '../slices.js';
import { arrayOf, type FloatArray, finiteNumber, objectArgument, offsets, optional, typedArray } from '../validate.js';
import { paddedOffsets } from './micro-batches.js';

/** A part of a batch, as {@link microBatches} makes them: what of it says how much each metric counts. */
export interface MeasuredPart {
  /** Its batch. */
  batch: {
    /** [N + 1], or `shape`. */
    cuSeqlens?: WholeNumbers | undefined;
    /** [B, L]. */
    shape?: readonly [sequences: number, length: number] | undefined;
    /** [G + 1]. */
    cuGroups?: WholeNumbers | undefined;
    /** [N]. */
    rewards?: Numbers | undefined;
    /** [T]. */
    mask?: Uint8Array | undefined;
    /** [T]. */
    rolloutLogProbs?: Numbers | undefined;
  };
  /** The options of its loss, of which `positiveThreshold` counts. */
  options?: object | undefined;
}

/** What metrics are means over. */
export interface Weights {
  tokens: number;
  unmasked: number;
  rolloutTokens: number; // that the engine could score
  sequences: number;
  positives: number;
  negatives: number;
  filledGroups: number;
}

type Rule = 'sum' | 'max' | 'derived' | 'none' | keyof Weights;

export const RULES: { readonly [Name in keyof Required<Metrics>]: Rule } = {
  tokens: 'sum',
  nonFiniteTokens: 'sum',
  contrastiveGroups: 'sum',
  degenerateGroups: 'sum',
  positiveScoreMean: 'positives',
  negativeScoreMean: 'negatives',
  scoreGap: 'derived',
  rewardMean: 'sequences',
  zeroVarianceFraction: 'filledGroups',
  clipFractionLow: 'tokens',
  clipFractionHigh: 'tokens',
  clipFraction: 'tokens',
  ratioMean: 'tokens',
  ratioMax: 'max',
  policyKl: 'tokens',
  effectiveSampleSize: 'derived',
  clipCovFraction: 'tokens',
  rejectedFraction: 'unmasked',
  rejectedSequenceFraction: 'sequences',
  kl: 'tokens',
  entropy: 'tokens',
  rolloutLogProbDiffMean: 'rolloutTokens',
  rolloutLogProbDiffMax: 'max',
  rolloutKl: 'rolloutTokens',
  rolloutEffectiveSampleSize: 'none', // needs the mean weight, which no metric has
  exchanges: 'sum',
  exchangedNumbers: 'sum',
};

/**
 * The metrics of a whole batch from those of its parts: sums of counts, maxima of maxima, and means with the weights that each is a mean
 * over, tokens, sequences, positives or groups. They are those of one call on the whole batch, but for `rolloutEffectiveSampleSize`, which
 * cannot be known and is left out. (Means of rollout differences are exact unless tokens are both missing in `rolloutLogProbs` and
 * dropped by `reject` or `onNonFinite: 'skip'`.) A metric that a part lacks is left out too.
 *
 * @example
 * ```ts
 * import { dapo, mergeMetrics, microBatches } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.4, -1, -0.6, -0.8, -0.2, -0.8, -0.5),
 *   oldLogProbs: Float32Array.of(-0.5, -0.9, -0.6, -0.7, -0.3, -0.8, -0.2),
 *   cuSeqlens: Int32Array.of(0, 2, 3, 4, 7),
 *   cuGroups: Int32Array.of(0, 2, 4),
 *   rewards: Float32Array.of(1, 0, 1, 1),
 * };
 * const parts = microBatches(batch, { sequences: 2, loss: 'dapo' });
 * const results = await Promise.all(parts.map((part) => dapo(part.batch, part.options)));
 * const { rewardMean, ratioMean, zeroVarianceFraction } = mergeMetrics(parts, results);
 * console.log(rewardMean, ratioMean, zeroVarianceFraction); // => 0.75 0.966 0.5
 * ```
 *
 * @param parts the parts, in any number.
 * @param results of each part the result of the loss, in the same order.
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`; `ERR_NONFINITE` for metrics so large that a mean is none.
 */
export function mergeMetrics<M extends { [Name in keyof Metrics]?: Metrics[Name] | undefined }>(
  parts: readonly MeasuredPart[],
  results: readonly { metrics: M }[],
): Omit<M, 'rolloutEffectiveSampleSize'> {
  return merged(measured(parts, results)) as Omit<M, 'rolloutEffectiveSampleSize'>;
}

/** The metrics of a part, and what they are means over. */
export interface Measured {
  metrics: Partial<Metrics>;
  weights: Weights;
}

/** What is known of each part, checked. */
export function measured(parts: readonly MeasuredPart[], results: readonly { metrics: object }[]): Measured[] {
  if (!isArray(parts)) throw badArgument('ERR_DTYPE', 'parts', 'an array', describe(parts));
  if (!isArray(results)) throw badArgument('ERR_DTYPE', 'results', 'an array', describe(results));
  if (parts.length !== results.length)
    throw badArgument('ERR_SHAPE', 'results', `length ${parts.length}, one for each part`, `length ${results.length}`);
  const all: Measured[] = [];
  for (let i = 0; i < parts.length; i++) {
    const metrics = measuredMetrics(results[i], `results[${i}]`);
    all.push({ metrics, weights: weightsOf(parts[i], `parts[${i}]`, metrics.tokens ?? 0) });
  }
  return all;
}

/** The metrics of all parts together. */
export function merged(parts: readonly Measured[]): Partial<Metrics> {
  const all = parts.map(({ metrics }) => metrics);
  const weights = parts.map((part) => part.weights);
  const whole: Partial<Metrics> = {};
  for (const name of Object.keys(RULES) as (keyof Metrics)[]) {
    const values = all.map((metrics) => metrics[name]);
    if (values.length === 0 || !values.every((value) => value !== undefined)) continue;
    const rule = RULES[name];
    if (rule === 'sum') whole[name] = sum(values);
    else if (rule === 'max') whole[name] = Math.max(...values);
    else if (rule === 'derived')
      whole[name] = 0; // for their order; below
    else if (rule !== 'none')
      whole[name] = weightedMean(
        values,
        weights.map((of) => of[rule]),
      );
  }
  if (whole.scoreGap !== undefined) whole.scoreGap = scoreGap(whole, weights);
  if (whole.effectiveSampleSize !== undefined) whole.effectiveSampleSize = effectiveSampleSize(all);
  for (const [name, value] of Object.entries(whole))
    if (Number.isNaN(value)) throw badArgument('ERR_NONFINITE', 'results', `a ${name} that can be merged`, 'others');
  return whole;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** In units of 2^32, as the metrics themselves are added up: no sum leaves the range of a double. */
const UNIT = 2 ** -32;

function weightedMean(values: readonly number[], weights: readonly number[]): number {
  const all = sum(weights);
  if (all === 0) return 0;
  return sum(values.map((value, i) => (weights[i] === 0 ? 0 : UNIT * value * weights[i]))) / all / UNIT;
}

function scoreGap({ positiveScoreMean = 0, negativeScoreMean = 0 }: Partial<Metrics>, weights: readonly Weights[]) {
  const both = weights.some(({ positives }) => positives > 0) && weights.some(({ negatives }) => negatives > 0);
  return both ? positiveScoreMean - negativeScoreMean : 0;
}

/** (sum r)^2 / (tokens * sum r^2), where both sums of a part follow from its mean and its own effective sample size. */
function effectiveSampleSize(all: readonly Partial<Metrics>[]): number {
  let [count, ratios, squares] = [0, 0, 0];
  for (const { tokens = 0, ratioMean = 0, effectiveSampleSize = 0 } of all) {
    if (tokens === 0 || effectiveSampleSize === 0) continue;
    count += tokens;
    ratios += tokens * ratioMean;
    squares += (tokens * ratioMean ** 2) / effectiveSampleSize;
  }
  return count === 0 || squares === 0 ? 0 : ratios ** 2 / (count * squares);
}

/** The metrics of a part, each read once. They may be infinite, where log-probs were. */
function measuredMetrics(result: { metrics: Partial<Metrics> }, at: string): Partial<Metrics> {
  const metrics = objectArgument(`${at}.metrics`, objectArgument(at, result).metrics);
  const read: Partial<Metrics> = {};
  for (const name of Object.keys(RULES) as (keyof Metrics)[]) {
    const value: unknown = metrics[name];
    if (value === undefined) continue;
    if (typeof value !== 'number' || Number.isNaN(value))
      throw badArgument('ERR_DTYPE', `${at}.metrics.${name}`, 'a number', describe(value));
    read[name] = value;
  }
  return read;
}

function weightsOf(part: MeasuredPart, at: string, tokens: number): Weights {
  const { batch, options } = objectArgument(at, part);
  const given = objectArgument(`${at}.batch`, batch);
  const cuSeqlens = sequencesOf(given, at);
  const sequences = cuSeqlens.length - 1;
  const length = cuSeqlens[sequences];
  const { cuGroups, rewards, mask, rolloutLogProbs } = given;
  const own = options === undefined ? {} : objectArgument(`${at}.options`, options);
  const { positiveThreshold = 0 } = own as { positiveThreshold?: unknown };
  const threshold = finiteNumber(`${at}.options.positiveThreshold`, positiveThreshold);
  const positives = optional(rewards, (value) => floatsOf(`${at}.batch.rewards`, value))?.filter((r) => r > threshold);
  const groups = optional(cuGroups, (value) => offsetsOf(`${at}.batch.cuGroups`, value));
  const flags = optional(mask, (value) => arrayOf(`${at}.batch.mask`, value, ['Uint8Array'], length, 'T'));
  const ofEngine = optional(rolloutLogProbs, (value) => floatsOf(`${at}.batch.rolloutLogProbs`, value));
  let [unmasked, missing] = [0, 0];
  for (let t = 0; t < length; t++) {
    if (flags?.[t] === 0) continue;
    unmasked++;
    if (ofEngine && Number.isNaN(ofEngine[t])) missing++;
  }
  return {
    tokens,
    unmasked,
    rolloutTokens: Math.max(tokens - missing, 0),
    sequences,
    positives: positives?.length ?? 0,
    negatives: sequences - (positives?.length ?? 0),
    filledGroups: groups?.filter((end, g) => g > 0 && end > groups[g - 1]).length ?? 0,
  };
}

function sequencesOf({ cuSeqlens, shape }: MeasuredPart['batch'], at: string): Int32Array {
  if (cuSeqlens !== undefined) return offsetsOf(`${at}.batch.cuSeqlens`, cuSeqlens);
  if (shape !== undefined) return paddedOffsets(shape, undefined).cuSeqlens;
  throw badArgument('ERR_DTYPE', `${at}.batch`, 'cuSeqlens, or the shape of a padded batch', 'neither');
}

function offsetsOf(name: string, value: unknown): Int32Array {
  return atOnce(offsets(name, isArray(value) ? wholeNumbers(name, value) : value));
}

function floatsOf(name: string, value: unknown): FloatArray {
  return isArray(value) ? numbers(name, value) : typedArray(name, value, ['Float32Array', 'Float64Array']);
}
