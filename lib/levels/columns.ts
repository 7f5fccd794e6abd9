// Ranks that hold different columns of the same rows of logits (spec section 12), and the targets among those.
import { NO_TARGET } from '../kernels.js';
import type { LogitsView } from '../logits.js';
import { newArray } from '../memory.js';
import type { Ranks } from '../run/ranks.js';
import { type Sliced, slices } from '../slices.js';
import { targetIds } from '../validate.js';

/** The columns of this rank. */
export interface Columns {
  ranks: Ranks;
  start: number; // the first of them among all
  targets: Int32Array; // [T] among the columns of all ranks
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
