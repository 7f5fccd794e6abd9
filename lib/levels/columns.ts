// Ranks that hold different columns of the same rows of logits (spec section 12), and the targets and kept ids among those.
import { NO_TARGET } from '../kernels.js';
import type { LogitsView } from '../logits.js';
import { newArray } from '../memory.js';
import type { Ranks } from '../run/ranks.js';
import { raggedSlices, type Sliced, slices } from '../slices.js';
import { checkReplay, type KeptVocabulary, type Replay } from '../token-rows.js';
import { targetIds } from '../validate.js';

/** The columns of this rank. */
export interface Columns {
  ranks: Ranks;
  start: number; // the first of them among all
  targets: Int32Array; // [T] among the columns of all ranks
  kept: Replay | undefined; // likewise
  without: Uint8Array | undefined; // [T] 1 where ids are kept, but none of this rank's
}

/** Ids in the columns of all ranks, and where they are among those of this one. */
export function* columnTargets(
  value: unknown,
  { tokens, vocab }: Pick<LogitsView, 'tokens' | 'vocab'>,
  mask: Uint8Array | undefined,
  start: number,
): Sliced<{ all: Int32Array; own: Int32Array }> {
  const all = yield* targetIds(value, tokens, 2 ** 31, mask); // how many there are is yet to be heard
  const own = newArray('targets', Int32Array, tokens);
  yield* slices(tokens, (begin, end) => {
    for (let t = begin; t < end; t++) {
      const id = all[t] - start;
      own[t] = id >= 0 && id < vocab ? id : NO_TARGET;
    }
  });
  return { all, own };
}

/** What is kept of all columns, of those of this rank, and where that is nothing. */
interface ColumnsKept {
  all: Replay;
  own: Replay;
  without: Uint8Array; // [T]
}

/** Kept ids in the columns of all ranks, and where they are among those of this one. `targets` are among all. */
export function* columnsKept(
  given: KeptVocabulary,
  { tokens, vocab }: Pick<LogitsView, 'tokens' | 'vocab'>,
  { targets, mask, start }: Pick<Columns, 'targets' | 'start'> & { mask: Uint8Array | undefined },
): Sliced<ColumnsKept> {
  const all = yield* checkReplay(given, { targets, mask, view: { tokens, vocab: 2 ** 31 } });
  const { keptIds, cuKept } = all;
  const firsts = newArray('cuKept', Int32Array, tokens);
  const ends = newArray('cuKept', Int32Array, tokens + 1);
  const without = newArray('cuKept', Uint8Array, tokens);
  yield* slices(tokens, (begin, end) => {
    for (let t = begin; t < end; t++) {
      ends[t + 1] = ends[t];
      if (mask?.[t] === 0) continue;
      firsts[t] = placeOf(start, keptIds, cuKept[t], cuKept[t + 1]);
      const count = placeOf(start + vocab, keptIds, firsts[t], cuKept[t + 1]) - firsts[t];
      ends[t + 1] += count;
      if (count === 0 && cuKept[t + 1] > cuKept[t]) without[t] = 1;
    }
  });
  const own = newArray('keptIds', Int32Array, ends[tokens]);
  yield* raggedSlices(ends, (t, begin, end) => {
    for (let k = begin; k < end; k++) own[k] = keptIds[firsts[t] + k - ends[t]] - start;
  });
  return { all, own: { keptIds: own, cuKept: ends }, without };
}

/** Of ids that ascend from `begin` to `end`, the first that is not below `id`, or `end`. */
function placeOf(id: number, ids: Int32Array, begin: number, end: number): number {
  let [low, high] = [begin, end];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ids[middle] < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A mask of this rank's rows, of which it also leaves out those without a kept id here. */
export function* heldMask({ without }: Columns, mask: Uint8Array | undefined): Sliced<Uint8Array | undefined> {
  if (!without?.includes(1)) return mask;
  const held = newArray('mask', Uint8Array, without.length);
  yield* slices(held.length, (begin, end) => {
    for (let t = begin; t < end; t++) held[t] = without[t] === 1 || mask?.[t] === 0 ? 0 : 1;
  });
  return held;
}
