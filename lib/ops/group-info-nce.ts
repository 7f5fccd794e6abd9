import { checkGroupOrder, type Groups } from '../groups.js';
import { newArray } from '../memory.js';
import type { Numbers, WholeNumbers } from '../number-lists.js';
import { namesOf, takeFields } from '../options.js';
import { finiteResults } from '../overflow.js';
import {
  type AsyncOptions,
  type BackendOptions,
  kernel,
  type MaybePending,
  optionsOf,
  type Pending,
  pending,
  readAll,
  runAsync,
  runSync,
  type Task,
} from '../run/task.js';
import { finiteFloats, finiteNumber, ifGiven, offsets, tokenCounts, typedArray } from '../validate.js';

/** Inputs of {@link groupInfoNCE}. */
export interface GroupInfoNCEInputs {
  /** [N] sequence scores, finite. */
  scores: Numbers;
  /** [N] verified rewards; positive: `reward > positiveThreshold`. */
  rewards: Numbers;
  /** [N] unmasked tokens of each sequence: a group without any adds 0. Omitted: every sequence has some. */
  tokenCounts?: Numbers | undefined;
  /** [G + 1], group g is sequences `cuGroups[g] ... cuGroups[g + 1]`. */
  cuGroups: WholeNumbers;
  /** [N] a permutation: group g is then sequences `groupOrder[cuGroups[g]] ...`; see {@link fromDense}. */
  groupOrder?: WholeNumbers | undefined;
}

/** Parameters of the InfoNCE objective. */
export interface InfoNCEParameters {
  /** Temperature of the contrast, > 0. Default 0.1 (this package's choice; the paper's values are not known to us). */
  tau?: number | undefined;
  /** By how much a positive should lead the negatives. Default 0; see `cosineMargin` for the paper's curriculum. */
  margin?: number | undefined;
  /** A sequence is positive when its reward is above this. Default 0. */
  positiveThreshold?: number | undefined;
  /** What the sum of group losses is divided by, > 0. Default G; give the whole batch's count to add up micro-batches. */
  normalizer?: number | undefined;
}

/** Names of {@link InfoNCEParameters}. */
export const INFO_NCE_PARAMETERS = namesOf<InfoNCEParameters>({
  tau: true,
  margin: true,
  positiveThreshold: true,
  normalizer: true,
});

/** Options of {@link groupInfoNCE}. */
export interface GroupInfoNCEOptions extends BackendOptions, InfoNCEParameters {}

/** Result of {@link groupInfoNCE}. */
export interface GroupInfoNCE {
  /** The sum of the group losses over the normalizer. */
  loss: number;
  /** [G] -J of each group; 0 for a group without both signs, or without any token. */
  groupLosses: Float64Array;
  /** [N] dloss/dscores. Sums to 0 over each group. */
  gradScores: Float64Array;
}

/** What the objective leaves. */
export interface GroupInfoNCEArrays {
  loss: Pending<Float64Array>; // [1]
  groupLosses: Pending<Float64Array>; // [G]
  gradScores: Pending<Float64Array>; // [N]
}

/** The objective on validated arrays. */
export function* groupInfoNCETask(
  scores: MaybePending<Float64Array>,
  rewards: Float64Array,
  tokenCounts: MaybePending<Float64Array> | undefined,
  { cuGroups, groupOrder }: Groups,
  options: InfoNCEParameters,
): Task<GroupInfoNCEArrays> {
  const groups = cuGroups.length - 1;
  const parameters = infoNCEParameters(options, groups);
  const groupLosses = newArray('groupLosses', Float64Array, groups);
  const gradScores = newArray('gradScores', Float64Array, scores.length);
  const loss = new Float64Array(1);
  const args = {
    scores,
    rewards,
    tokenCounts,
    cuGroups,
    groupOrder,
    groups,
    groupLosses,
    gradScores,
    loss,
    ...parameters,
  };
  yield kernel('groupInfoNCE', args);
  return pending({ loss, groupLosses, gradScores });
}

/** Defaults filled in, checked. */
export function infoNCEParameters(options: InfoNCEParameters, groups: number): Required<InfoNCEParameters> {
  return {
    tau: finiteNumber('tau', options.tau ?? 0.1, { above: 0 }),
    margin: finiteNumber('margin', options.margin ?? 0),
    positiveThreshold: finiteNumber('positiveThreshold', options.positiveThreshold ?? 0),
    normalizer: finiteNumber('normalizer', options.normalizer ?? Math.max(groups, 1), { above: 0 }),
  };
}

const opOptions = optionsOf<GroupInfoNCEOptions>('groupInfoNCE', INFO_NCE_PARAMETERS);

function* op(inputs: GroupInfoNCEInputs, options: Partial<GroupInfoNCEOptions>): Task<GroupInfoNCE> {
  const sequences = typedArray('scores', inputs.scores, ['Float32Array', 'Float64Array']).length;
  const scores = yield* finiteFloats('scores', inputs.scores, sequences, 'N');
  const rewards = yield* finiteFloats('rewards', inputs.rewards, sequences, 'N, one reward per score');
  const cuGroups = yield* offsets('cuGroups', inputs.cuGroups, sequences, 'N');
  const counts = yield* ifGiven(inputs.tokenCounts, (n) => tokenCounts(n, sequences));
  const groupOrder = yield* ifGiven(inputs.groupOrder, (order) => checkGroupOrder('groupOrder', order, sequences));
  const nce = groupInfoNCETask(scores, rewards, counts, { cuGroups, groupOrder }, options);
  const { loss, groupLosses, gradScores } = yield* readAll(yield* nce);
  const causes = 'scores, tau or margin are too large, or normalizer too small';
  yield* finiteResults({ groupLosses, loss, gradScores }, causes);
  return { loss: loss[0], groupLosses, gradScores };
}

/**
 * ConSPO's objective (arXiv 2605.12969, eq. 10): each positive against all negatives of its own group, and no other
 * positive. `J_g = (1/N+) sum_i -tau * softplus((b - (s_i - margin)) / tau)` with `b = tau * logsumexp_j(s_j / tau)`;
 * `loss = -sum_g J_g / normalizer`.
 *
 * @example
 * ```ts
 * import { groupInfoNCE } from 'rlvr-kernels';
 *
 * const { loss, groupLosses, gradScores } = await groupInfoNCE(
 *   {
 *     scores: Float64Array.of(-0.1, -0.7, -0.4, -0.2), // [N]
 *     rewards: Float32Array.of(1, 0, 1, 1), // [N]
 *     cuGroups: Int32Array.of(0, 2, 4), // the second group has no negative: it adds 0
 *   },
 *   { tau: 0.5 },
 * );
 * console.log(loss, groupLosses); // => 0.066 Float64Array(2) [ 0.132, 0 ]
 * console.log(gradScores); // => Float64Array(4) [ -0.116, 0.116, 0, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function groupInfoNCE(
  inputs: GroupInfoNCEInputs,
  options?: GroupInfoNCEOptions & AsyncOptions,
): Promise<GroupInfoNCE> {
  const own = opOptions.async(options);
  return runAsync(op, takeFields('inputs', inputs), own);
}

/** {@link groupInfoNCE}, blocking. */
export function groupInfoNCESync(inputs: GroupInfoNCEInputs, options?: GroupInfoNCEOptions): GroupInfoNCE {
  const own = opOptions.sync(options);
  return runSync(op, takeFields('inputs', inputs), own);
}
