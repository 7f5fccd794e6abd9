// How the rewards of a batch become advantages (spec sections 4 and 9): per group, and for some estimators then whitened over the
// tokens of the whole batch.
import { badArgument, describe, isArray, itemsOf } from './errors.js';
import { type Groups, gather, scatter } from './groups.js';
import { newArray } from './memory.js';
import { namesOf } from './options.js';
import { atOnceIfShort, findIndex, mapped, raggedSlices, type Sliced, slices, total } from './slices.js';
import { allFinite, type FloatArray, finiteFloats, finiteNumber, oneOf, typedArray } from './validate.js';

/** Their names. */
export const ESTIMATORS = [
  'grpo',
  'drGrpo',
  'rloo',
  'opo',
  'maxRl',
  'passK',
  'gpg',
  'gdpo',
  'reinforcePlusPlus',
  'reinforcePlusPlusBaseline',
] as const;

/**
 * How rewards become advantages; spec sections 4 and 9.
 * @useDeclaredType
 */
export type AdvantageEstimator = (typeof ESTIMATORS)[number];

/** Options of {@link advantages}. */
export interface AdvantagesOptions {
  /**
   * With R the reward of a sequence and mean and std those of its group:
   *
   * | estimator | advantage |
   * |---|---|
   * | `grpo` | (R - mean) / (std + eps) |
   * | `drGrpo` | R - mean |
   * | `rloo` | (R - mean) * n / (n - 1) in a group of n |
   * | `opo` | R minus the mean weighted by tokens |
   * | `maxRl` | (R - mean) / mean; 0 where the mean is not above 0 |
   * | `passK` | (R - second best) / (std + eps) for the group's first best, 0 for all others |
   * | `gpg` | (R - mean) * N / (sequences of the batch whose reward is not 0); R itself counts in a group of one |
   * | `gdpo` | of K rewards each as `grpo`, their sum weighted by `weights`, whitened |
   * | `reinforcePlusPlus` | R, whitened |
   * | `reinforcePlusPlusBaseline` | R - mean (R in a group of one), whitened |
   *
   * Whitened: x becomes (x - mean) / sqrt(variance + 1e-8) over all tokens of the batch that count, with x that of the token's
   * sequence, and the unbiased variance. Default `'grpo'`.
   */
  estimator?: AdvantageEstimator | undefined;
  /** Degrees of freedom subtracted in the standard deviation: 1 (sample, the default) or 0 (population). */
  ddof?: 0 | 1 | undefined;
  /** Added to the standard deviation, >= 0. Default 1e-4, as in TRL (verl: 1e-6). */
  eps?: number | undefined;
  /**
   * Of `grpo`, `passK` and `gdpo`: divide by the standard deviation of the group's rewards (the default), by that of the whole
   * batch's, or not at all. TRL's `scale_rewards`.
   */
  scale?: 'group' | 'batch' | 'none' | undefined;
  /** Of `gdpo`: [K] the weight of each reward. Default 1 each. */
  weights?: readonly number[] | FloatArray | undefined;
}

/** Names of {@link AdvantagesOptions}. */
export const ADVANTAGES_OPTIONS = namesOf<AdvantagesOptions>({
  estimator: true,
  ddof: true,
  eps: true,
  scale: true,
  weights: true,
});

/** An estimator with its options, checked. */
export interface AdvantageRule extends Required<Pick<AdvantagesOptions, 'estimator' | 'ddof' | 'eps' | 'scale'>> {
  weights: Float64Array | undefined; // [K]
  /** Whether it has K rewards per sequence. */
  hasColumns: boolean;
  needsTokenCounts: boolean;
  whitens: boolean;
}

const SCALED: ReadonlySet<AdvantageEstimator> = new Set(['grpo', 'passK', 'gdpo']);
const WHITENED: ReadonlySet<AdvantageEstimator> = new Set(['gdpo', 'reinforcePlusPlus', 'reinforcePlusPlusBaseline']);
/** Those with which a group of one keeps its reward. */
const KEEPING: ReadonlySet<AdvantageEstimator> = new Set(['gpg', 'reinforcePlusPlusBaseline']);

/** The rule of the options, checked. */
export function advantageRule(options: AdvantagesOptions): AdvantageRule {
  const estimator = oneOf('estimator', options.estimator ?? 'grpo', ESTIMATORS);
  const ddof = finiteNumber('ddof', options.ddof ?? 1, { min: 0, max: 1, integer: true }) as 0 | 1;
  const eps = finiteNumber('eps', options.eps ?? 1e-4, { min: 0 });
  const scale = oneOf('scale', options.scale ?? 'group', ['group', 'batch', 'none']);
  const hasColumns = estimator === 'gdpo';
  if (options.scale !== undefined && !SCALED.has(estimator)) throw misplaced('scale', [...SCALED], options.scale);
  if (options.weights !== undefined && !hasColumns) throw misplaced('weights', ['gdpo'], options.weights);
  const whitens = WHITENED.has(estimator);
  const needsTokenCounts = whitens || estimator === 'opo';
  return {
    estimator,
    ddof,
    eps,
    scale,
    weights: rewardWeights(options.weights),
    hasColumns,
    needsTokenCounts,
    whitens,
  };
}

function misplaced(option: string, estimators: string[], got: unknown) {
  const expected = `none but with ${estimators.map((name) => `'${name}'`).join(', ')}`;
  return badArgument('ERR_RANGE', option, expected, describe(got));
}

const MOST_REWARDS = 1000; // of a sequence

function rewardWeights(given: unknown): Float64Array | undefined {
  if (given === undefined) return undefined;
  if (!ArrayBuffer.isView(given) && !isArray(given))
    throw badArgument('ERR_DTYPE', 'weights', 'an array of numbers', describe(given));
  const { length } = isArray(given) ? given : typedArray('weights', given, ['Float32Array', 'Float64Array']);
  if (length === 0 || length > MOST_REWARDS)
    throw badArgument('ERR_SHAPE', 'weights', `1 to ${MOST_REWARDS} numbers`, `${length}`);
  const items = isArray(given) ? itemsOf(given, length) : Array.from(given as FloatArray);
  return Float64Array.from(items, (item, k) => finiteNumber(`weights[${k}]`, item));
}

/** [N, K] rewards, one of each objective, checked. K is the number of weights, else what the length is a multiple of. */
export function* rewardColumns(
  value: unknown,
  sequences: number,
  weights: Float64Array | undefined,
): Sliced<Float64Array> {
  const { length } = typedArray('rewards', value, ['Float32Array', 'Float64Array']);
  const columns = weights?.length ?? Math.max(Math.ceil(length / Math.max(sequences, 1)), 1);
  return yield* finiteFloats('rewards', value, sequences * columns, `N * K, ${columns} per sequence`);
}

/** [N] the rewards of each sequence, weighted and added. */
export function* weightedRewards(
  rewards: Float64Array,
  sequences: number,
  weights: Float64Array | undefined,
): Sliced<Float64Array> {
  const columns = sequences === 0 ? 0 : rewards.length / sequences;
  const sums = newArray('rewards', Float64Array, sequences);
  yield* slices(sequences, (begin, end) => {
    for (let i = begin; i < end; i++) {
      for (let k = 0; k < columns; k++) sums[i] += (weights?.[k] ?? 1) * rewards[i * columns + k];
    }
  });
  return yield* finiteAdvantages(sums, rewards, columns);
}

/**
 * [N] advantages of a rule on validated arrays: `rewards` [N] ([N, K] for a rule with columns), `tokenCounts` [N] for a rule that
 * needs them. Whitened ones are those of each token of the sequence.
 */
export function* estimateAdvantages(
  rule: AdvantageRule,
  rewards: Float64Array,
  tokenCounts: Float64Array | undefined,
  { cuGroups, groupOrder }: Groups,
): Sliced<Float64Array> {
  const counts = tokenCounts && (yield* gather(tokenCounts, groupOrder));
  const sequences = cuGroups[cuGroups.length - 1];
  const columns = sequences === 0 ? 0 : rewards.length / sequences;
  let values: Float64Array;
  if (rule.hasColumns) {
    values = newArray('advantages', Float64Array, sequences);
    for (let k = 0; k < columns; k++) {
      const column = yield* mapped(values, (_, i) => rewards[(groupOrder?.[i] ?? i) * columns + k]);
      const ofColumn = yield* ofGroups({ ...rule, estimator: 'grpo' }, column, undefined, cuGroups);
      const weight = rule.weights?.[k] ?? 1;
      values = yield* mapped(values, (sum, i) => sum + weight * ofColumn[i]);
    }
  } else {
    values = yield* ofGroups(rule, yield* gather(rewards, groupOrder), counts, cuGroups);
  }
  const ordered = rule.whitens ? yield* whitened(values, counts!) : values;
  return yield* finiteAdvantages(yield* scatter(ordered, groupOrder), rewards, columns);
}

function* finiteAdvantages(values: Float64Array, rewards: Float64Array, columns: number): Sliced<Float64Array> {
  if (yield* allFinite(values)) return values;
  const bad = yield* findIndex(values.length, (i) => !Number.isFinite(values[i]));
  const expected = 'values of which the advantages are finite';
  throw badArgument(
    'ERR_NONFINITE',
    'rewards',
    expected,
    `${rewards[bad * columns]}, with an advantage of ${values[bad]}`,
  );
}

/** [N] what a rule makes of each group, before any whitening. */
function* ofGroups(
  rule: AdvantageRule,
  given: Float64Array,
  counts: Float64Array | undefined,
  cuGroups: Int32Array,
): Sliced<Float64Array> {
  const { rewards, scales } = yield* scaled(given, cuGroups, rule.scale === 'batch');
  const centring = rule.estimator === 'opo' ? counts : undefined;
  const { centres, varies } = yield* groupCentres(rewards, centring, cuGroups);
  const divisors = yield* groupDivisors(rule, rewards, centres, scales, cuGroups);
  const best = rule.estimator === 'passK' ? yield* bestOfGroups(rewards, cuGroups) : undefined;
  const common = rule.estimator === 'gpg' ? yield* overNonZero(given) : 1;
  const values = newArray('advantages', Float64Array, rewards.length);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    const sequences = cuGroups[g + 1] - cuGroups[g];
    const asGiven = rule.estimator === 'reinforcePlusPlus' || (sequences === 1 && KEEPING.has(rule.estimator));
    if (!asGiven && varies[g] === 0) return;
    const factor = rule.estimator === 'rloo' ? sequences / (sequences - 1) : common;
    const divisor = divisors[g];
    if (rule.estimator === 'maxRl' && divisor <= 0) return;
    const centre = asGiven ? 0 : centres[g];
    for (let i = begin; i < end; i++) {
      const distance = best ? (i === best.places[g] ? best.leads[g] : 0) : rewards[i] - centre;
      values[i] = (distance * factor) / divisor;
    }
  });
  return values;
}

/** [G] what distances from the centre are divided by, which makes up for the scale of the rewards. */
function* groupDivisors(
  { estimator, ddof, eps, scale }: AdvantageRule,
  rewards: Float64Array,
  centres: Float64Array,
  scales: Float64Array | undefined,
  cuGroups: Int32Array,
): Sliced<Float64Array> {
  if (estimator === 'maxRl') return centres;
  if (!SCALED.has(estimator) || scale === 'none') return yield* mapped(centres, (_, g) => scales?.[g] ?? 1);
  const deviation = (squares: number, n: number) => Math.sqrt(squares / Math.max(n - ddof, 1));
  if (scale === 'batch') {
    const mean = (yield* total(rewards)) / Math.max(rewards.length, 1);
    const squares = yield* total(yield* mapped(rewards, (reward) => (reward - mean) ** 2));
    const std = deviation(squares, rewards.length);
    return yield* mapped(centres, (_, g) => std + (scales?.[g] ?? 1) * eps);
  }
  const squares = newArray('advantages', Float64Array, centres.length);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let i = begin; i < end; i++) squares[g] += (rewards[i] - centres[g]) ** 2;
  });
  return yield* mapped(squares, (sum, g) => deviation(sum, cuGroups[g + 1] - cuGroups[g]) + (scales?.[g] ?? 1) * eps);
}

/** [G] where the first best reward of each group is, and by how much it leads; 0 for a group of one. */
function* bestOfGroups(rewards: Float64Array, cuGroups: Int32Array) {
  const places = newArray('advantages', Int32Array, cuGroups.length - 1).fill(-1);
  const seconds = newArray('advantages', Float64Array, cuGroups.length - 1).fill(-Infinity);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let i = begin; i < end; i++) {
      const best = places[g] === -1 ? -Infinity : rewards[places[g]];
      seconds[g] = Math.max(seconds[g], Math.min(best, rewards[i]));
      if (rewards[i] > best) places[g] = i;
    }
  });
  const leads = yield* mapped(seconds, (second, g) => (second === -Infinity ? 0 : rewards[places[g]] - second));
  return { places, leads };
}

/** The number of rewards over that of those that are not 0. */
function* overNonZero(rewards: Float64Array): Sliced<number> {
  let nonZero = 0;
  yield* slices(rewards.length, (begin, end) => {
    for (let i = begin; i < end; i++) if (rewards[i] !== 0) nonZero++;
  });
  return rewards.length / Math.max(nonZero, 1);
}

const WHITENING_EPS = 1e-8;

/** [N] the values of all counted tokens brought to mean 0 and variance 1; exactly 0 where they are all equal. */
function* whitened(given: Float64Array, counts: Float64Array): Sliced<Float64Array> {
  const first = yield* findIndex(counts.length, (i) => counts[i] > 0);
  const other = yield* findIndex(counts.length, (i) => counts[i] > 0 && given[i] !== given[first]);
  if (other === -1) return newArray('advantages', Float64Array, given.length);
  const large = yield* findIndex(given.length, (i) => Math.abs(given[i]) > LARGE);
  const scale = large === -1 ? 1 : SMALL;
  const values = yield* mapped(given, (value, i) => (counts[i] > 0 ? value * scale : 0));
  const tokens = yield* total(counts);
  const mean = (yield* total(values, counts)) / tokens;
  const squares = yield* mapped(values, (value) => (value - mean) ** 2);
  const variance = (yield* total(squares, counts)) / Math.max(tokens - 1, 1);
  const divisor = Math.sqrt(variance + WHITENING_EPS * scale * scale);
  return yield* mapped(values, (value, i) => (counts[i] > 0 ? (value - mean) / divisor : 0));
}

/**
 * Rewards of groups in which sums or squares might leave the range of a double, multiplied by a power of two, and [G] that:
 * advantages are those of the scaled rewards over the scale. Most batches have no such groups. `together`: one scale for all.
 */
function* scaled(rewards: Float64Array, cuGroups: Int32Array, together: boolean) {
  let most = 0;
  let least = Infinity;
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) {
      const magnitude = Math.abs(rewards[i]);
      if (magnitude > most) most = magnitude;
      if (magnitude < least && magnitude > 0) least = magnitude;
    }
  };
  if (!atOnceIfShort(rewards.length, work)) yield* slices(rewards.length, work);
  if (most < LARGE && least > 1 / LARGE) return { rewards, scales: undefined };
  const scales = newArray('advantages', Float64Array, cuGroups.length - 1);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let i = begin; i < end; i++) scales[g] = Math.max(scales[g], Math.abs(rewards[i]));
  });
  for (let g = 0; g < scales.length; g++) {
    const largest = together ? most : scales[g];
    scales[g] = largest > LARGE ? SMALL : largest < 1 / LARGE ? 1 / SMALL : 1;
  }
  const result = newArray('rewards', Float64Array, rewards.length);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let i = begin; i < end; i++) result[i] = rewards[i] * scales[g];
  });
  return { rewards: result, scales };
}

const LARGE = 2 ** 400;
const SMALL = 2 ** -600;

/** [G] the mean reward of each group, weighted by `weights` if there are any, and whether its rewards differ. */
function* groupCentres(rewards: Float64Array, weights: Float64Array | undefined, cuGroups: Int32Array) {
  const groups = cuGroups.length - 1;
  const sums = newArray('advantages', Float64Array, groups);
  const totals = newArray('advantages', Float64Array, groups);
  const varies = newArray('advantages', Uint8Array, groups);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let i = begin; i < end; i++) {
      const weight = weights?.[i] ?? 1;
      sums[g] += weight * rewards[i];
      totals[g] += weight;
      if (rewards[i] !== rewards[cuGroups[g]]) varies[g] = 1;
    }
  });
  const centres = yield* mapped(sums, (sum, g) => sum / Math.max(totals[g], 1));
  return { centres, varies };
}
