import { optionsArgument } from './backend/task.js';
import {
  type FloatArray,
  finiteFloats,
  finiteNumber,
  objectArgument,
  offsets,
  oneOf,
  tokenCounts,
  typedArray,
} from './validate.js';

/** How a group's rewards become advantages; spec section 4. */
export type AdvantageEstimator = 'grpo' | 'drGrpo' | 'rloo' | 'opo';

/** Inputs of {@link advantages}. */
export interface AdvantagesInputs {
  /** [N] verified rewards. */
  rewards: FloatArray;
  /** [G + 1]: group g is sequences `cuGroups[g] ... cuGroups[g + 1]`. */
  cuGroups: Int32Array;
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
  /** Degrees of freedom taken off in the standard deviation: 1 (sample, the default) or 0 (population). */
  ddof?: 0 | 1;
  /** Added to the standard deviation, >= 0. Default 1e-4, as TRL (verl: 1e-6). */
  eps?: number;
}

type Rule = (rewards: Float64Array, counts: Float64Array | undefined) => Float64Array;

const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;

function standardised(ddof: number, eps: number): Rule {
  return (rewards) => {
    const mu = mean(rewards);
    const squares = rewards.reduce((sum, r) => sum + (r - mu) ** 2, 0);
    const std = Math.sqrt(squares / Math.max(rewards.length - ddof, 1));
    return rewards.map((r) => (r - mu) / (std + eps));
  };
}

function scaledDifference(scale: (n: number) => number): Rule {
  return (rewards) => {
    const mu = mean(rewards);
    return rewards.map((r) => (r - mu) * scale(rewards.length));
  };
}

const lengthWeighted: Rule = (rewards, counts) => {
  let total = 0;
  let weighted = 0;
  rewards.forEach((r, i) => {
    total += counts?.[i] ?? 0;
    weighted += (counts?.[i] ?? 0) * r;
  });
  const baseline = weighted / Math.max(total, 1);
  return rewards.map((r) => r - baseline);
};

function ruleOf(options: AdvantagesOptions): Rule {
  const estimator = oneOf('estimator', options.estimator ?? 'grpo', ['grpo', 'drGrpo', 'rloo', 'opo']);
  const ddof = finiteNumber('ddof', options.ddof ?? 1, { min: 0, max: 1, integer: true });
  const eps = finiteNumber('eps', options.eps ?? 1e-4, { min: 0 });
  if (estimator === 'grpo') return standardised(ddof, eps);
  if (estimator === 'drGrpo') return scaledDifference(() => 1);
  if (estimator === 'rloo') return scaledDifference((n) => n / (n - 1));
  return lengthWeighted;
}

/**
 * Advantages of a batch of groups, [N]. A group whose rewards are all equal (one sequence included) gets exactly 0.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`.
 */
export function advantages(inputs: AdvantagesInputs, options?: AdvantagesOptions): Float64Array {
  objectArgument('inputs', inputs);
  const sequences = typedArray('rewards', inputs.rewards, ['Float32Array', 'Float64Array']).length;
  const rewards = finiteFloats('rewards', inputs.rewards, sequences, 'N');
  const cuGroups = offsets('cuGroups', inputs.cuGroups, sequences, 'N');
  const checked = optionsArgument(options);
  const rule = ruleOf(checked);
  const needsCounts = checked.estimator === 'opo' || inputs.tokenCounts !== undefined;
  const counts = needsCounts ? tokenCounts(inputs.tokenCounts, sequences) : undefined;
  const result = new Float64Array(sequences);
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    const [begin, end] = [cuGroups[g], cuGroups[g + 1]];
    const group = rewards.subarray(begin, end);
    if (group.some((r) => r !== group[0])) result.set(rule(group, counts?.subarray(begin, end)), begin);
  }
  return result;
}
