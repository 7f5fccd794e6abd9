import { checkGroupOrder, gather, scatter } from './groups.js';
import { namesOf, takeFields, takeOptions } from './options.js';
import {
  type FloatArray,
  finiteFloats,
  finiteNumber,
  offsets,
  oneOf,
  optional,
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

/** Rewards [N], their lengths [N] for `opo`, and where the advantages [N] go. */
interface Group {
  rewards: Float64Array;
  tokenCounts: Float64Array | undefined;
  advantages: Float64Array;
}

/** Writes the advantages of sequences [begin, end). */
type Rule = (group: Group, begin: number, end: number) => void;

function mean(values: Float64Array, begin: number, end: number): number {
  let sum = 0;
  for (let i = begin; i < end; i++) sum += values[i];
  return sum / (end - begin);
}

function standardised(ddof: number, eps: number): Rule {
  return ({ rewards, advantages }, begin, end) => {
    const mu = mean(rewards, begin, end);
    let squares = 0;
    for (let i = begin; i < end; i++) squares += (rewards[i] - mu) ** 2;
    const std = Math.sqrt(squares / Math.max(end - begin - ddof, 1));
    for (let i = begin; i < end; i++) advantages[i] = (rewards[i] - mu) / (std + eps);
  };
}

function scaledDifference(scale: (n: number) => number): Rule {
  return ({ rewards, advantages }, begin, end) => {
    const mu = mean(rewards, begin, end);
    for (let i = begin; i < end; i++) advantages[i] = (rewards[i] - mu) * scale(end - begin);
  };
}

const lengthWeighted: Rule = ({ rewards, tokenCounts, advantages }, begin, end) => {
  let tokens = 0;
  let weighted = 0;
  for (let i = begin; i < end; i++) {
    tokens += tokenCounts?.[i] ?? 0;
    weighted += (tokenCounts?.[i] ?? 0) * rewards[i];
  }
  for (let i = begin; i < end; i++) advantages[i] = rewards[i] - weighted / Math.max(tokens, 1);
};

/** How rewards become advantages. */
export interface AdvantageRule {
  apply: Rule;
  needsTokenCounts: boolean;
}

/** The rule of the options, checked. */
export function advantageRule(options: AdvantagesOptions): AdvantageRule {
  const estimator = oneOf('estimator', options.estimator ?? 'grpo', ['grpo', 'drGrpo', 'rloo', 'opo']);
  const ddof = finiteNumber('ddof', options.ddof ?? 1, { min: 0, max: 1, integer: true });
  const eps = finiteNumber('eps', options.eps ?? 1e-4, { min: 0 });
  const rules = {
    grpo: standardised(ddof, eps),
    drGrpo: scaledDifference(() => 1),
    rloo: scaledDifference((n) => n / (n - 1)),
    opo: lengthWeighted,
  };
  return { apply: rules[estimator], needsTokenCounts: estimator === 'opo' };
}

/** A rule on validated arrays. */
export function estimateAdvantages(
  { apply }: AdvantageRule,
  rewards: Float64Array,
  tokenCounts: Float64Array | undefined,
  cuGroups: Int32Array,
): Float64Array {
  const group: Group = { rewards, tokenCounts, advantages: new Float64Array(rewards.length) };
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    if (varies(rewards, cuGroups[g], cuGroups[g + 1])) apply(group, cuGroups[g], cuGroups[g + 1]);
  }
  return group.advantages;
}

function varies(rewards: Float64Array, begin: number, end: number): boolean {
  for (let i = begin + 1; i < end; i++) {
    if (rewards[i] !== rewards[begin]) return true;
  }
  return false;
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
  const inputs = takeFields('inputs', given);
  const sequences = typedArray('rewards', inputs.rewards, ['Float32Array', 'Float64Array']).length;
  const rewards = finiteFloats('rewards', inputs.rewards, sequences, 'N');
  const cuGroups = offsets('cuGroups', inputs.cuGroups, sequences, 'N');
  const groupOrder = optional(inputs.groupOrder, (order) => checkGroupOrder('groupOrder', order, sequences));
  const rule = advantageRule(takeOptions('advantages', optionsArgument(options), ADVANTAGES_OPTIONS));
  const needsCounts = rule.needsTokenCounts || inputs.tokenCounts !== undefined;
  const counts = needsCounts ? gather(tokenCounts(inputs.tokenCounts, sequences), groupOrder) : undefined;
  return scatter(estimateAdvantages(rule, gather(rewards, groupOrder), counts, cuGroups), groupOrder);
}
