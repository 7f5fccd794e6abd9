import { badArgument } from './errors.js';
import { checkGroupOrder, gather, scatter } from './groups.js';
import { newArray } from './memory.js';
import { namesOf, takeFields, takeOptions } from './options.js';
import { atOnce, atOnceIfShort, findIndex, mapped, raggedSlices, type Sliced, slices } from './slices.js';
import {
  allFinite,
  type FloatArray,
  finiteFloats,
  finiteNumber,
  ifGiven,
  offsets,
  oneOf,
  optionsArgument,
  tokenCounts,
  typedArray,
} from './validate.js';

/** How a group's rewards become advantages; spec section 4. */
export type AdvantageEstimator = 'grpo' | 'drGrpo' | 'rloo' | 'opo';

/** Inputs of {@link advantages}. */
export interface AdvantagesInputs {
  /** [N] verified rewards. */
  rewards: FloatArray;
  /** [G + 1], group g is sequences `cuGroups[g] ... cuGroups[g + 1]`. */
  cuGroups: Int32Array;
  /** [N] a permutation: group g is then sequences `groupOrder[cuGroups[g]] ...`; see {@link fromDense}. */
  groupOrder?: Int32Array | undefined;
  /** [N] unmasked tokens of each sequence; needed by `opo`. */
  tokenCounts?: FloatArray;
}

/** Options of {@link advantages}. */
export interface AdvantagesOptions {
  /**
   * `grpo` (R - mean) / (std + eps); `drGrpo` R - mean; `rloo` (R - mean) * n / (n - 1); `opo` R minus the
   * length-weighted mean. Default `'grpo'`.
   */
  estimator?: AdvantageEstimator;
  /** Degrees of freedom subtracted in the standard deviation: 1 (sample, the default) or 0 (population). */
  ddof?: 0 | 1;
  /** Added to the standard deviation, >= 0. Default 1e-4, as in TRL (verl: 1e-6). */
  eps?: number;
}

/** Names of {@link AdvantagesOptions}. */
export const ADVANTAGES_OPTIONS = namesOf<AdvantagesOptions>({ estimator: true, ddof: true, eps: true });

/** How rewards become advantages: `(R - centre) * factor / divisor`, with the numbers of the group. */
export interface AdvantageRule {
  /** Whether each reward counts for the centre by the tokens of its sequence; else they count alike. */
  needsTokenCounts: boolean;
  factor(sequences: number): number;
  /** From the sum of (R - centre)^2, where the rule needs that; of rewards that are multiplied by `scale`. */
  divisor: ((squares: number, sequences: number, scale: number) => number) | undefined;
}

/** The rule of the options, checked. */
export function advantageRule(options: AdvantagesOptions): AdvantageRule {
  const estimator = oneOf('estimator', options.estimator ?? 'grpo', ['grpo', 'drGrpo', 'rloo', 'opo']);
  const ddof = finiteNumber('ddof', options.ddof ?? 1, { min: 0, max: 1, integer: true });
  const eps = finiteNumber('eps', options.eps ?? 1e-4, { min: 0 });
  const needsTokenCounts = estimator === 'opo';
  const factor = (n: number) => (estimator === 'rloo' ? n / (n - 1) : 1);
  if (estimator !== 'grpo') return { needsTokenCounts, factor, divisor: undefined };
  const divisor = (squares: number, n: number, scale: number) =>
    Math.sqrt(squares / Math.max(n - ddof, 1)) + scale * eps;
  return { needsTokenCounts, factor, divisor };
}

/** A rule on validated arrays. `tokenCounts` for a rule that needs them. */
export function* estimateAdvantages(
  rule: AdvantageRule,
  given: Float64Array,
  tokenCounts: Float64Array | undefined,
  cuGroups: Int32Array,
): Sliced<Float64Array> {
  const { rewards, scales } = yield* scaled(given, cuGroups);
  const counts = rule.needsTokenCounts ? tokenCounts : undefined;
  const { centres, varies } = yield* groupCentres(rewards, counts, cuGroups);
  const squares = newArray('advantages', Float64Array, centres.length);
  if (rule.divisor) {
    yield* raggedSlices(cuGroups, (g, begin, end) => {
      for (let i = begin; i < end; i++) squares[g] += (rewards[i] - centres[g]) ** 2;
    });
  }
  const advantages = newArray('advantages', Float64Array, rewards.length);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    if (varies[g] === 0) return;
    const sequences = cuGroups[g + 1] - cuGroups[g];
    const factor = rule.factor(sequences);
    const scale = scales?.[g] ?? 1;
    const divisor = rule.divisor ? rule.divisor(squares[g], sequences, scale) : scale;
    for (let i = begin; i < end; i++) advantages[i] = ((rewards[i] - centres[g]) * factor) / divisor;
  });
  if (yield* allFinite(advantages)) return advantages;
  const bad = yield* findIndex(advantages.length, (i) => !Number.isFinite(advantages[i]));
  const expected = 'values of which the advantages are finite';
  throw badArgument('ERR_NONFINITE', 'rewards', expected, `${given[bad]}, with an advantage of ${advantages[bad]}`);
}

/**
 * Rewards of groups in which sums or squares might leave the range of a double, multiplied by a power of two, and [G] that:
 * advantages are those of the scaled rewards over the scale. Most batches have no such groups.
 */
function* scaled(rewards: Float64Array, cuGroups: Int32Array) {
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
  for (let g = 0; g < scales.length; g++) scales[g] = scales[g] > LARGE ? SMALL : scales[g] < 1 / LARGE ? 1 / SMALL : 1;
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

/**
 * Advantages of a batch of groups, [N], per group of n sequences with rewards R: `grpo` (R - mean) / (std + eps) (arXiv 2402.03300),
 * `drGrpo` R - mean (2503.20783), `rloo` (R - mean) * n / (n - 1) (2402.14740), `opo` R - sum(n_i R_i) / sum(n_i) with n_i tokens
 * (2505.23585). A group whose rewards are all equal (one sequence included) gets exactly 0.
 *
 * @example
 * ```ts
 * import { advantages } from 'rlvr-kernels';
 *
 * const rewards = Float32Array.of(1, 0, 0, 1, 1); // [N]
 * const cuGroups = Int32Array.of(0, 3, 5); // two questions, with three answers and with two
 * console.log(advantages({ rewards, cuGroups }, { estimator: 'rloo' })); // => Float64Array(5) [ 1, -0.5, -0.5, 0, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`.
 */
export function advantages(given: AdvantagesInputs, options?: AdvantagesOptions): Float64Array {
  return atOnce(advantagesOf(takeFields('inputs', given), options));
}

function* advantagesOf(inputs: AdvantagesInputs, options: AdvantagesOptions | undefined): Sliced<Float64Array> {
  const rule = advantageRule(takeOptions('advantages', optionsArgument(options), ADVANTAGES_OPTIONS));
  const sequences = typedArray('rewards', inputs.rewards, ['Float32Array', 'Float64Array']).length;
  const rewards = yield* finiteFloats('rewards', inputs.rewards, sequences, 'N');
  const cuGroups = yield* offsets('cuGroups', inputs.cuGroups, sequences, 'N');
  const groupOrder = yield* ifGiven(inputs.groupOrder, (order) => checkGroupOrder('groupOrder', order, sequences));
  const needsCounts = rule.needsTokenCounts || inputs.tokenCounts !== undefined;
  const counts = needsCounts ? yield* gather(yield* tokenCounts(inputs.tokenCounts, sequences), groupOrder) : undefined;
  const ordered = yield* estimateAdvantages(rule, yield* gather(rewards, groupOrder), counts, cuGroups);
  return yield* scatter(ordered, groupOrder);
}
