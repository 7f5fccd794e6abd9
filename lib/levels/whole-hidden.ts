// The gradient of hidden states where ranks share the rows of the layer's weight (spec section 12): each has a part of the sum over columns.
import { DeviceTensor, memoryOf } from '../cuda/device.js';
import { badArgument, type RlvrError } from '../errors.js';
import { type DeviceMemory, DTYPE_CODES, type HostLogits } from '../kernels.js';
import type { GradientView } from '../matrices.js';
import { newArray } from '../memory.js';
import { READERS, ROUNDERS } from '../reference/token-log-probs.js';
import type { Ranks } from '../run/ranks.js';
import { read, type Task } from '../run/task.js';
import { type Sliced, slices } from '../slices.js';

const PIECE = 2 ** 20; // numbers that are exchanged at a time

/** A rank's part of a gradient, in float32 until all of them are added up. */
export type PartOfHidden = GradientView & { tensor: DeviceTensor | undefined };

/** Where a rank's part goes: in the memory of the gradient's device, or here. */
export function partialHidden({ rows, width, source }: GradientView): PartOfHidden {
  const tensor = source instanceof DeviceTensor ? source.device.empty([rows, width]) : undefined;
  const data = tensor ? memoryOf('gradHidden', tensor) : newArray('gradHidden', Float32Array, rows * width);
  return { data, dtype: DTYPE_CODES.f32, rows, width, rowStride: width, accumulate: false, source, tensor };
}

/** Refuses gradients that these ranks cannot add up. */
export function checkHiddenSum(view: GradientView | undefined, { deviceSums }: Ranks): void {
  if (!(view?.source instanceof DeviceTensor)) return;
  if (deviceSums === undefined) {
    const expected = "'none' or host memory with parallel.vocab, or an NCCL communicator (openNccl) as its comm";
    throw badArgument('ERR_RANGE', 'gradHidden', expected, 'a DeviceTensor');
  }
  if (deviceSums.device !== view.source.device)
    throw badArgument(
      'ERR_BACKEND',
      'gradHidden',
      'a tensor of the device of parallel.vocab.comm',
      'one of another Device',
    );
}

/** Adds the parts of all ranks up, and writes their sum to where the gradient goes. */
export function* sumHidden(ranks: Ranks, part: PartOfHidden, into: GradientView): Task<void> {
  if (!part.tensor) {
    yield* sumOnHost(ranks, (yield* read(part.data as Float32Array))[0], into);
    return;
  }
  try {
    yield* sumOnDevice(ranks, part, into);
  } finally {
    part.tensor.dispose();
  }
}

/** In float32. A rank whose tensor was disposed of meanwhile takes part as well: the others are on their way. */
function* sumOnDevice(ranks: Ranks, part: PartOfHidden, into: GradientView): Task<void> {
  const memory = part.data as DeviceMemory;
  const disposed = (into.data as DeviceMemory).pointer === 0n;
  const { data, dtype, rowStride: stride, accumulate } = disposed ? part : into;
  const { rows, width } = into;
  const sum = { part: memory, to: data as DeviceMemory, dtype, rows, width, stride, accumulate };
  const bad = yield* ranks.sumOnDevice(ranks.deviceSums!, sum);
  if (disposed) throw badArgument('ERR_DISPOSED', 'gradHidden', 'a DeviceTensor with its memory', 'a disposed one');
  if (bad !== -1) throw notFinite(bad);
}

/** In float64, the same bits on all ranks. */
function* sumOnHost(ranks: Ranks, part: Float32Array, into: GradientView): Task<void> {
  const { rows, width } = into;
  const atOnce = Math.max(1, Math.floor(PIECE / Math.max(width, 1)));
  for (let first = 0; first < rows; first += atOnce) {
    const last = Math.min(first + atOnce, rows);
    const parts = yield* ranks.gather(part.subarray(first * width, last * width));
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
  const [reader, round] = [READERS[dtype], ROUNDERS[dtype]];
  const out = data as HostLogits;
  let bad = -1;
  yield* slices(sums.length, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const at = (first + Math.floor(i / width)) * rowStride + (i % width);
      out[at] = round(accumulate ? reader(out, at) + sums[i] : sums[i]);
      if (bad === -1 && !Number.isFinite(reader(out, at))) bad = first + Math.floor(i / width);
    }
  });
  if (bad !== -1) throw notFinite(bad);
}

function notFinite(row: number): RlvrError {
  return badArgument('ERR_NONFINITE', 'gradHidden', 'finite sums over all ranks', `others at row ${row}`);
}
