import { badArgument } from './errors.js';
import { checkGroupOrder } from './groups.js';
import { newArray } from './memory.js';
import type { Numbers, WholeNumbers } from './number-lists.js';
import { namesOf, takeFields, takeOptions } from './options.js';
import { atOnce, type Sliced } from './slices.js';
import { finiteFloats, finiteNumber, ifGiven, offsets, optionsArgument, typedArray } from './validate.js';

/** Inputs of {@link passAtK}: those of a batch of rollouts, which may have other fields besides. */
export interface PassAtKInputs {
  /** [N] verified rewards; an answer is right where its reward is above `positiveThreshold`. */
  rewards: Numbers;
  /** [G + 1], group g (one prompt) is answers `cuGroups[g] ... cuGroups[g + 1]`, at least k of them. */
  cuGroups: WholeNumbers;
  /** [N] a permutation: group g is then answers `groupOrder[cuGroups[g]] ...`; see {@link fromDense}. */
  groupOrder?: WholeNumbers | undefined;
}

/** Options of {@link passAtK}. */
export interface PassAtKOptions {
  /** How many answers are drawn, from 1 to the number of answers in the smallest group. */
  k: number;
  /** An answer is right where its reward is above this. Default 0. */
  positiveThreshold?: number | undefined;
}

/** Result of {@link passAtK}. */
export interface PassAtK {
  /** [G] the estimate for each prompt, in [0, 1]. */
  groups: Float64Array;
  /** The mean of those; 0 without groups. */
  mean: number;
}

/**
 * pass@k: how likely one of k answers to a prompt is right, estimated without bias from the n >= k answers that were sampled, of which
 * c are right: `1 - C(n - c, k) / C(n, k)` (Chen et al. 2021, arXiv 2107.03374). For k = 1 that is the share of right answers.
 *
 * @example
 * ```ts
 * import { passAtK } from 'rlvr-kernels';
 *
 * const rewards = Float32Array.of(1, 0, 0, 0, 1, 1, 0, 0); // [N]
 * const cuGroups = Int32Array.of(0, 4, 8); // two questions with four answers each
 * console.log(passAtK({ rewards, cuGroups }, { k: 2 })); // => { groups: Float64Array(2) [ 0.5, 0.833 ], mean: 0.667 }
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION`; `ERR_RANGE` for a `k` above the number of
 * answers in a group, naming the first.
 */
export function passAtK(inputs: PassAtKInputs, options: PassAtKOptions): PassAtK {
  const names = namesOf<PassAtKOptions>({ k: true, positiveThreshold: true });
  const { k, positiveThreshold } = takeOptions('passAtK', optionsArgument(options), names);
  const draws = finiteNumber('k', k, { min: 1, integer: true });
  const threshold = finiteNumber('positiveThreshold', positiveThreshold ?? 0);
  return atOnce(estimates(takeFields('inputs', inputs), draws, threshold));
}

function* estimates(inputs: PassAtKInputs, k: number, threshold: number): Sliced<PassAtK> {
  const { length } = typedArray('rewards', inputs.rewards, ['Float32Array', 'Float64Array']);
  const cuGroups = yield* offsets('cuGroups', inputs.cuGroups, length, 'N');
  const rewards = yield* finiteFloats('rewards', inputs.rewards, length, 'N');
  const order = yield* ifGiven(inputs.groupOrder, (given) => checkGroupOrder('groupOrder', given, length));
  const groups = newArray('groups', Float64Array, cuGroups.length - 1);
  let sum = 0;
  for (let g = 0; g < groups.length; g++) {
    const n = cuGroups[g + 1] - cuGroups[g];
    if (k > n) throw badArgument('ERR_RANGE', 'k', `at most the ${n} answers of group ${g}`, String(k));
    let right = 0;
    for (let i = cuGroups[g]; i < cuGroups[g + 1]; i++) if (rewards[order?.[i] ?? i] > threshold) right++;
    groups[g] = 1 - allWrong(n, right, k);
    sum += groups[g];
  }
  return { groups, mean: sum / Math.max(groups.length, 1) };
}

/** C(n - c, k) / C(n, k), the chance that k of n answers are all wrong when c are right, as a product that stays within [0, 1]. */
function allWrong(n: number, c: number, k: number): number {
  if (n - c < k) return 0;
  let chance = 1;
  for (let i = n - c + 1; i <= n; i++) chance *= 1 - k / i;
  return chance;
}
