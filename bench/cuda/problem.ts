// Logits on the device, and the exact results for them in float64. A block of random rows is made here and repeated there
// by copies within the device, so that megabytes are uploaded and not gigabytes. Every row of [T, V] still has memory of its
// own, far more in all than any cache holds.

import type { DeviceTensor } from '../../lib/cuda/index.js';
import { allFinite, bytesPerElement, createProblem, type Elements, roundTo, widen } from '../problems/data.js';
import {
  exactGradient,
  gradientError,
  normError,
  type RowTruth,
  requireWithin,
  sampledRows,
  softmaxSums,
  WrongResult,
} from '../problems/float64.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import { type Cuda, timeCopy } from './device.js';
import type { CudaShape } from './settings.js';

export interface CudaProblem {
  readonly shape: CudaShape;
  readonly bytes: number; // of one [T, V] array
  readonly targets: Int32Array; // [T]
  /** dL/dlogProbs; none is 0, for such rows would not be read. */
  readonly upstream: Float64Array; // [T]
  readonly logits: DeviceTensor;
  /** The logits again, for gradients in place. */
  readonly work: DeviceTensor;
  readonly out: DeviceTensor;
  readonly logProbs: Float64Array; // [T] exact
  readonly entropy: Float64Array; // [T] exact
  /** Of the sampled rows. */
  truth(upstream: ArrayLike<number>): RowTruth[];
}

const BLOCK_ROWS = 64;

function rowsOf(tensor: DeviceTensor, row: number, rows: number): DeviceTensor {
  const { device, dtype, rowStride, shape } = tensor;
  const pointer = tensor.pointer + BigInt(row * rowStride * bytesPerElement(dtype));
  return device.wrap({ pointer, shape: [rows, shape[1]], dtype, rowStride, owner: tensor });
}

/** Fills a tensor by doubling what it holds already. */
function fill(cuda: Cuda, tensor: DeviceTensor, block: Elements): void {
  const [tokens, vocab] = tensor.shape;
  const size = bytesPerElement(tensor.dtype);
  let filled = block.length / vocab;
  cuda.device.uploadSync(
    { data: block, shape: [filled, vocab], dtype: tensor.dtype },
    { out: rowsOf(tensor, 0, filled) },
  );
  while (filled < tokens) {
    const rows = Math.min(filled, tokens - filled);
    timeCopy(cuda, rowsOf(tensor, filled, rows), rowsOf(tensor, 0, rows), rows * vocab * size, 1);
    filled += rows;
  }
}

export function createCudaProblem(cuda: Cuda, shape: CudaShape, seed: number): CudaProblem {
  const { tokens, vocab, dtype } = shape;
  const blockRows = Math.min(BLOCK_ROWS, tokens);
  const block = createProblem({ tokens: blockRows, vocab }, seed);
  const data = roundTo(block.logits, dtype);
  const targets = Int32Array.from({ length: tokens }, (_, t) => (Math.imul(t + 1, 2654435761) >>> 0) % vocab);
  const upstream = Float64Array.from({ length: tokens }, (_, t) => block.upstream[t % blockRows]);
  if (upstream.includes(0)) throw new Error(`seed ${seed} gives an upstream gradient of 0: choose another`);

  const rows = Array.from({ length: blockRows }, (_, r) => softmaxSums(widen(data, dtype, r * vocab, (r + 1) * vocab)));
  const logProbs = Float64Array.from(targets, (target, t) => {
    const { maximum, logSum } = rows[t % blockRows];
    const at = (t % blockRows) * vocab + target;
    return widen(data, dtype, at, at + 1)[0] - maximum - logSum;
  });
  const entropy = Float64Array.from({ length: tokens }, (_, t) => rows[t % blockRows].entropy);
  const truth = (grads: ArrayLike<number>) =>
    sampledRows(tokens).map((row) => {
      const r = row % blockRows;
      const x = widen(data, dtype, r * vocab, (r + 1) * vocab);
      const gradient = exactGradient(x, rows[r], targets[row], grads[row]);
      return { row, logProb: logProbs[row], entropy: entropy[row], gradient };
    });

  const empty = () => cuda.device.empty([tokens, vocab], dtype);
  const [logits, work, out] = [empty(), empty(), empty()];
  for (const tensor of [logits, work, out]) fill(cuda, tensor, data); // `out` too: no array is ever all zeros
  const bytes = tokens * vocab * bytesPerElement(dtype);
  return { shape, bytes, targets, upstream, logits, work, out, logProbs, entropy, truth };
}

/** Gives the memory back. */
export function disposeProblem({ logits, work, out }: CudaProblem): void {
  for (const tensor of [logits, work, out]) tensor.dispose();
}

/** The error over all rows. */
export function checkValues(name: string, values: ArrayLike<number>, exact: Float64Array): number {
  const error = normError(values, exact);
  requireWithin(name, error, TOKEN_TOLERANCE.value);
  return error;
}

/** The error over the sampled rows of a gradient. */
export function checkGradient(
  name: string,
  { shape: { dtype }, truth }: CudaProblem,
  gradient: DeviceTensor,
  upstream: ArrayLike<number>,
): number {
  const error = gradientError((row) => {
    const bits = rowsOf(gradient, row, 1).downloadSync();
    if (!allFinite(bits, dtype)) throw new WrongResult(`${name}: row ${row} is not finite`);
    return widen(bits, dtype);
  }, truth(upstream));
  requireWithin(name, error, TOKEN_TOLERANCE.gradient[dtype]);
  return error;
}

/** Throws where most elements of the sampled rows are 0: zeros are not timed. */
export function requireNonZero(name: string, tensor: DeviceTensor): void {
  for (const row of sampledRows(tensor.shape[0])) {
    const values = Array.from(rowsOf(tensor, row, 1).downloadSync());
    if (values.filter((x) => x === 0).length > values.length / 2)
      throw new WrongResult(`${name}: row ${row} is mostly zeros`);
  }
}
