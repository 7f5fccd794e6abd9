// Defines linear-log-probs (spec section 10) in plain float64 loops, a row of logits at a time. See
// native/ops/linear_log_probs.h. Holds the weight in float64, and so the gradient of the weight.
import type {
  GradientArgument,
  HostLogits,
  LinearLogProbsBackwardArguments,
  LinearLogProbsForwardArguments,
  MatrixArgument,
} from '../kernels.js';
import { newArray } from '../memory.js';
import { findIndex, PAUSE, type Sliced } from '../slices.js';
import {
  clearRow,
  logitGradient,
  overflows,
  READERS,
  ROUNDERS,
  upstreamOf,
  writeForwardRow,
} from './token-log-probs.js';

type Arguments = LinearLogProbsForwardArguments | LinearLogProbsBackwardArguments;

const SLICE = 2 ** 15; // products between two pauses

/** The weight and the bias in float64, and how a row of logits follows from them. */
class Layer {
  static *of({ weight, bias, vocab, width, ...args }: Arguments): Sliced<Layer> {
    const own = newArray('weight', Float64Array, vocab * width);
    for (let v = 0; v < vocab; v++) {
      own.set(rowOf(weight, v, width), v * width);
      if (startsSlice(v, width)) yield PAUSE;
    }
    const added = bias ? rowOf(bias, 0, vocab) : newArray('bias', Float64Array, vocab);
    return new Layer(own, added, vocab, width, args.temperature);
  }

  private constructor(
    readonly weight: Float64Array, // [V, d]
    readonly bias: Float64Array, // [V]
    readonly vocab: number,
    readonly width: number,
    readonly temperature: number,
  ) {}

  /** z = logits / temperature of a hidden state. */
  *scaledRow(hidden: Float64Array): Sliced<Float64Array> {
    const { weight, bias, vocab, width, temperature } = this;
    const z = newArray('logits', Float64Array, vocab);
    for (let v = 0; v < vocab; v++) {
      if (startsSlice(v, width)) yield PAUSE;
      let sum = bias[v];
      for (let k = 0; k < width; k++) sum += hidden[k] * weight[v * width + k];
      z[v] = sum / temperature;
    }
    return z;
  }
}

/** Whether a loop over rows, which has come to row r, is to pause. */
function startsSlice(r: number, width: number): boolean {
  return r % Math.ceil(SLICE / Math.max(width, 1)) === 0;
}

function rowOf({ data, dtype, rowStride }: MatrixArgument, r: number, width: number): Float64Array {
  const read = READERS[dtype];
  const row = newArray('row', Float64Array, width);
  for (let k = 0; k < width; k++) row[k] = read(data as HostLogits, r * rowStride + k);
  return row;
}

export function* linearLogProbsForward(args: LinearLogProbsForwardArguments): Sliced<void> {
  args.nonFinite[0] = 0;
  const layer = yield* Layer.of(args);
  for (let t = 0; t < args.tokens; t++) {
    clearRow(args, t);
    if (args.mask?.[t] === 0) continue;
    const z = yield* layer.scaledRow(rowOf(args.hidden, t, args.width));
    writeForwardRow(args, t, z);
  }
}

export function* linearLogProbsBackward(args: LinearLogProbsBackwardArguments): Sliced<void> {
  const { badRows, tokens, vocab, width } = args;
  badRows.fill(-1);
  badRows[0] = yield* findIndex(tokens, (t) => overflows(upstreamOf(args, t), args.temperature));
  if (badRows[0] >= 0) return;
  const layer = yield* Layer.of(args);
  const gradHidden = newArray('gradHidden', Float64Array, width);
  const gradWeight = newArray('gradWeight', Float64Array, args.gradWeight ? vocab * width : 0);
  const gradBias = newArray('gradBias', Float64Array, vocab);
  for (let t = 0; t < tokens; t++) {
    gradHidden.fill(0);
    yield* addRow(args, t, layer, { gradHidden, gradWeight, gradBias });
    if (writeRow(args.gradHidden, t, gradHidden) === false && badRows[1] < 0) badRows[1] = t;
  }
  for (let v = 0; v < vocab; v++) {
    if (startsSlice(v, width)) yield PAUSE;
    const finite = writeRow(args.gradWeight, v, gradWeight.subarray(v * width, (v + 1) * width));
    if (finite === false && badRows[2] < 0) badRows[2] = v;
  }
  const bias = args.gradBias && { ...args.gradBias, rowStride: 1 }; // rows of one entry each: a wrong one has a name
  badRows[3] = yield* findIndex(vocab, (v) => writeRow(bias, v, gradBias.subarray(v, v + 1)) === false);
}

interface Sums {
  gradHidden: Float64Array; // [d], of one row
  gradWeight: Float64Array; // [V, d], or empty
  gradBias: Float64Array; // [V]
}

/** Adds what comes from row t. */
function* addRow(
  args: LinearLogProbsBackwardArguments,
  t: number,
  layer: Layer,
  { gradHidden, gradWeight, gradBias }: Sums,
): Sliced<void> {
  const upstream = upstreamOf(args, t);
  if (upstream.g === 0 && upstream.h === 0) return;
  const { weight, vocab, width, temperature } = layer;
  const hidden = rowOf(args.hidden, t, width);
  const z = yield* layer.scaledRow(hidden);
  for (let v = 0; v < vocab; v++) {
    if (startsSlice(v, width)) yield PAUSE;
    const gradient = logitGradient(z[v] - args.logSumExp[t], v === args.targets[t], upstream, temperature);
    const start = v * width;
    for (let k = 0; k < width; k++) gradHidden[k] += gradient * weight[start + k];
    if (gradWeight.length > 0) for (let k = 0; k < width; k++) gradWeight[start + k] += gradient * hidden[k];
    gradBias[v] += gradient;
  }
}

/** Rounds a row to its place, or adds it to what is there; whether it is finite. Undefined if the gradient is not wanted. */
function writeRow(to: GradientArgument | undefined, r: number, row: Float64Array): boolean | undefined {
  if (!to) return undefined;
  const [read, round] = [READERS[to.dtype], ROUNDERS[to.dtype]];
  const data = to.data as HostLogits;
  let finite = true;
  for (let k = 0; k < row.length; k++) {
    const at = r * to.rowStride + k;
    data[at] = round(to.accumulate ? read(data, at) + row[k] : row[k]);
    finite = finite && Number.isFinite(read(data, at));
  }
  return finite;
}
