// The gradient of hidden states where ranks share the rows of the layer's weight (spec section 12): each has a part of the sum over columns.
import { badArgument } from '../errors.js';
import { DTYPE_CODES, type HostLogits } from '../kernels.js';
import type { GradientView } from '../matrices.js';
import { newArray } from '../memory.js';
import { READERS, ROUNDERS } from '../reference/token-log-probs.js';
import type { Ranks } from '../run/ranks.js';
import type { Task } from '../run/task.js';
import { type Sliced, slices } from '../slices.js';

const PIECE = 2 ** 20; // numbers that are exchanged at a time

/** Where a rank's part goes, in float32 until all of them are added up. */
export function partialHidden({ rows, width }: GradientView): GradientView & { data: Float32Array } {
  const data = newArray('gradHidden', Float32Array, rows * width);
  return { data, dtype: DTYPE_CODES.f32, rows, width, rowStride: width, accumulate: false, source: data };
}

/** Refuses gradients that ranks cannot add up. */
export function requireHostHidden(view: GradientView | undefined): void {
  if (!view || ArrayBuffer.isView(view.data)) return;
  throw badArgument('ERR_RANGE', 'gradHidden', "'none' or host memory with parallel.vocab", 'a DeviceTensor');
}

/** Adds the parts of all ranks up, and writes their sum, the same on all, to where the gradient goes. */
export function* sumHidden(ranks: Ranks, part: Float32Array, into: GradientView): Task<void> {
  const { rows, width } = into;
  const atOnce = Math.max(1, Math.floor(PIECE / Math.max(width, 1)));
  for (let first = 0; first < rows; first += atOnce) {
    const last = Math.min(first + atOnce, rows);
    const parts = yield* ranks.gather(Float64Array.from(part.subarray(first * width, last * width)));
    const sums = parts[0].slice();
    for (const other of parts.slice(1)) {
      yield* slices(sums.length, (begin, end) => {
        for (let i = begin; i < end; i++) sums[i] += other[i];
      });
    }
    yield* writeRows(sums, first, into);
  }
}

function* writeRows(
  sums: Float64Array,
  first: number,
  { data, dtype, width, rowStride, accumulate }: GradientView,
): Sliced<void> {
  const [read, round] = [READERS[dtype], ROUNDERS[dtype]];
  const out = data as HostLogits;
  let bad = -1;
  yield* slices(sums.length, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const at = (first + Math.floor(i / width)) * rowStride + (i % width);
      out[at] = round(accumulate ? read(out, at) + sums[i] : sums[i]);
      if (bad === -1 && !Number.isFinite(read(out, at))) bad = first + Math.floor(i / width);
    }
  });
  if (bad === -1) return;
  throw badArgument('ERR_NONFINITE', 'gradHidden', 'finite sums over all ranks', `others at row ${bad}`);
}
