import { badArgument } from './errors.js';
import {
  ADVANTAGES_OPTIONS,
  type AdvantagesOptions,
  advantageRule,
  estimateAdvantages,
  rewardColumns,
} from './estimators.js';
import { checkGroupOrder, countTokens, spreadOverTokens } from './groups.js';
import type { Numbers, WholeNumbers } from './number-lists.js';
import { takeFields, takeOptions } from './options.js';
import { atOnce, type Sliced } from './slices.js';
import { finiteFloats, ifGiven, offsets, optionalMask, optionsArgument, tokenCounts, typedArray } from './validate.js';

/** Inputs of {@link advantages}. */
export interface AdvantagesInputs {
  /** [N] verified rewards; for `gdpo` [N, K], those of sequence i at `K * i ...`. */
  rewards: Numbers;
  /** [G + 1], group g is sequences `cuGroups[g] ... cuGroups[g + 1]`. */
  cuGroups: WholeNumbers;
  /** [N] a permutation: group g is then sequences `groupOrder[cuGroups[g]] ...`; see {@link fromDense}. */
  groupOrder?: WholeNumbers | undefined;
  /** [N] unmasked tokens of each sequence, for `opo` in place of `cuSeqlens` and `mask`. */
  tokenCounts?: Numbers | undefined;
  /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`; needed by estimators that whiten. */
  cuSeqlens?: WholeNumbers | undefined;
  /** [T] beside `cuSeqlens`; 0 drops a token. */
  mask?: Uint8Array | undefined;
}

/**
 * Advantages of a batch of groups, as {@link AdvantagesOptions.estimator} has the formulas: [N], one per sequence; of the estimators
 * that whiten (`gdpo`, `reinforcePlusPlus`, `reinforcePlusPlusBaseline`) [T], one per token and 0 where masked. A group whose rewards are
 * all equal (one sequence included) gets exactly 0, unless the estimator says otherwise. Sources: `grpo` arXiv 2402.03300, `drGrpo`
 * 2503.20783, `rloo` 2402.14740, `opo` 2505.23585, `gpg` 2504.02546, `reinforcePlusPlus` 2501.03262, `gdpo` 2601.05242; `gpg` and
 * whitening as in verl.
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
  const { length } = typedArray('rewards', inputs.rewards, ['Float32Array', 'Float64Array']);
  const cuGroups = yield* offsets('cuGroups', inputs.cuGroups, rule.hasColumns ? undefined : length, 'N');
  const sequences = cuGroups[cuGroups.length - 1];
  const rewards = rule.hasColumns
    ? yield* rewardColumns(inputs.rewards, sequences, rule.weights)
    : yield* finiteFloats('rewards', inputs.rewards, sequences, 'N');
  const groupOrder = yield* ifGiven(inputs.groupOrder, (order) => checkGroupOrder('groupOrder', order, sequences));
  const given = yield* ifGiven(inputs.tokenCounts, (counts) => tokenCounts(counts, sequences));
  if (!rule.needsTokenCounts) return yield* estimateAdvantages(rule, rewards, undefined, { cuGroups, groupOrder });
  if (!rule.whitens && (given || inputs.cuSeqlens === undefined)) {
    const counts = given ?? (yield* tokenCounts(inputs.tokenCounts, sequences)); // which refuses their absence
    return yield* estimateAdvantages(rule, rewards, counts, { cuGroups, groupOrder });
  }
  const cuSeqlens = yield* sequenceOffsets(inputs.cuSeqlens, sequences);
  const mask = optionalMask(inputs.mask, cuSeqlens[sequences]);
  const counts = yield* countTokens(cuSeqlens, mask);
  const values = yield* estimateAdvantages(rule, rewards, counts, { cuGroups, groupOrder });
  return rule.whitens ? yield* spreadOverTokens(values, cuSeqlens, mask) : values;
}

function* sequenceOffsets(value: unknown, sequences: number): Sliced<Int32Array> {
  const cuSeqlens = yield* offsets('cuSeqlens', value);
  if (cuSeqlens.length === sequences + 1) return cuSeqlens;
  throw badArgument('ERR_SHAPE', 'cuSeqlens', `length ${sequences + 1} (N + 1)`, `length ${cuSeqlens.length}`);
}
