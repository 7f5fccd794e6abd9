// Groups of sequences: packed side by side, or in any order with a permutation that says which belong together.
import { badArgument, describe, isArray } from './errors.js';
import { newArray } from './memory.js';
import { mapped, raggedSlices, type Sliced, slices } from './slices.js';
import { arrayOf, typedArray } from './validate.js';

/** Checked groups of a batch. */
export interface Groups {
  cuGroups: Int32Array; // [G + 1]
  groupOrder: Int32Array | undefined; // [N]
}

/** [N] the prompt of each sequence: any numbers or strings, equal for the sequences of one group. */
export type GroupIds = Int32Array | readonly number[] | readonly string[];

/** Groups of sequences that need not be adjacent. */
export interface DenseGroups {
  /** [G + 1], group g is sequences `groupOrder[cuGroups[g]] ... groupOrder[cuGroups[g + 1] - 1]`. */
  cuGroups: Int32Array;
  /**
   * [N] a permutation of the sequences that brings each group together; undefined where they are adjacent already
   * (the key is present, so that spreading it into a batch replaces an earlier order).
   */
  groupOrder: Int32Array | undefined;
}

/**
 * Turns group ids [N], in any order, into the groups of a batch: spread the result into it. No sequence is moved: tokens, scores
 * and gradients stay in the caller's order, and `groupOrder` says which sequences form a group (undefined where each
 * group's sequences are adjacent already). Groups are numbered as they first appear, so that `groupLosses[g]` is of
 * `[...new Set(groupIds)][g]`; within a group the sequences keep their order.
 *
 * @example
 * ```ts
 * import { fromDense } from 'rlvr-kernels';
 *
 * const { cuGroups, groupOrder } = fromDense(['a', 'b', 'a']); // [N] which prompt each sequence answers
 * console.log(cuGroups, groupOrder); // => Int32Array(3) [ 0, 2, 3 ] Int32Array(3) [ 0, 2, 1 ]
 * console.log(fromDense([7, 7, 3]).groupOrder); // => undefined
 * ```
 *
 * @throws RlvrError `ERR_DTYPE` for anything but an `Int32Array`, an array of numbers or an array of strings;
 * `ERR_NONFINITE` for an id that is NaN or infinite.
 */
export function fromDense(groupIds: GroupIds): DenseGroups {
  const ids = checkGroupIds(groupIds);
  const groups = new Map<number | string, number>();
  const groupOf = newArray('groupIds', Int32Array, ids.length);
  for (let i = 0; i < ids.length; i++) {
    groupOf[i] = groups.get(ids[i]) ?? groups.size;
    groups.set(ids[i], groupOf[i]);
  }
  const cuGroups = new Int32Array(groups.size + 1);
  for (const group of groupOf) cuGroups[group + 1]++;
  for (let g = 0; g < groups.size; g++) cuGroups[g + 1] += cuGroups[g];
  const next = cuGroups.slice(0, -1);
  const groupOrder = newArray('groupOrder', Int32Array, groupOf.length);
  groupOf.forEach((group, i) => {
    groupOrder[next[group]++] = i;
  });
  const adjacent = groupOrder.every((i, k) => i === k);
  return { cuGroups, groupOrder: adjacent ? undefined : groupOrder };
}

/** The ids, each read once. */
function checkGroupIds(value: unknown): Int32Array | readonly (number | string)[] {
  if (ArrayBuffer.isView(value)) return typedArray('groupIds', value, ['Int32Array']);
  if (!isArray(value)) {
    throw badArgument('ERR_DTYPE', 'groupIds', 'Int32Array, an array of numbers or one of strings', describe(value));
  }
  const { length } = value;
  const ids: (number | string)[] = [];
  let kind = 'number';
  for (let i = 0; i < length; i++) {
    const id = value[i];
    if (i === 0 && typeof id === 'string') kind = 'string';
    if (typeof id !== kind)
      throw badArgument('ERR_DTYPE', 'groupIds', `${kind}s throughout`, `${describe(id)} at index ${i}`);
    if (kind === 'number' && !Number.isFinite(id))
      throw badArgument('ERR_NONFINITE', 'groupIds', 'finite numbers', `${id} at index ${i}`);
    ids.push(id as number | string);
  }
  return ids;
}

/**
 * A permutation of `sequences` indices, in which `order[k]` is the sequence that comes k-th. A copy: the caller may
 * change theirs while an op runs.
 *
 * @throws RlvrError `ERR_DTYPE`, `ERR_SHAPE`; `ERR_RANGE` naming the first index out of range or met twice.
 */
export function* checkGroupOrder(name: string, value: unknown, sequences: number): Sliced<Int32Array> {
  const given = arrayOf(name, value, ['Int32Array'], sequences, 'N, one index per sequence');
  const order = newArray(name, Int32Array, sequences);
  const seen = newArray(name, Uint8Array, sequences);
  yield* slices(sequences, (begin, end) => {
    for (let k = begin; k < end; k++) {
      const i = given[k];
      order[k] = i;
      if (i < 0 || i >= sequences)
        throw badArgument('ERR_RANGE', name, `sequence indices in [0, ${sequences})`, `${i} at index ${k}`);
      if (seen[i] === 1) throw badArgument('ERR_RANGE', name, 'each sequence once', `${i} again at index ${k}`);
      seen[i] = 1;
    }
  });
  return order;
}

/** [N] values of sequences in group order: `out[k] = values[order[k]]`. The values themselves without an order. */
export function* gather(values: Float64Array, order: Int32Array | undefined): Sliced<Float64Array> {
  if (!order) return values;
  return yield* mapped(values, (_, k) => values[order[k]]);
}

/** The way back of {@link gather}: `out[order[k]] = values[k]`. The values themselves without an order. */
export function* scatter(values: Float64Array, order: Int32Array | undefined): Sliced<Float64Array> {
  if (!order) return values;
  const out = newArray('values', Float64Array, order.length);
  yield* slices(order.length, (begin, end) => {
    for (let k = begin; k < end; k++) out[order[k]] = values[k];
  });
  return out;
}

/** The sequences of group g. */
export function groupMembers({ cuGroups, groupOrder }: Groups, g: number): number[] {
  return Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => {
    const place = cuGroups[g] + k;
    return groupOrder ? groupOrder[place] : place;
  });
}

/** [N] the tokens of each sequence that the mask keeps. */
export function* countTokens(cuSeqlens: Int32Array, mask: Uint8Array | undefined): Sliced<Float64Array> {
  const counts = newArray('cuSeqlens', Float64Array, cuSeqlens.length - 1);
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    if (!mask) counts[i] += end - begin;
    else for (let t = begin; t < end; t++) counts[i] += mask[t] === 0 ? 0 : 1;
  });
  return counts;
}

/** [T] for each token that the mask keeps the value of its sequence, for others 0. */
export function* spreadOverTokens(
  values: Float64Array,
  cuSeqlens: Int32Array,
  mask: Uint8Array | undefined,
): Sliced<Float64Array> {
  const spread = newArray('values', Float64Array, cuSeqlens[cuSeqlens.length - 1]);
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) if (mask?.[t] !== 0) spread[t] = values[i];
  });
  return spread;
}
