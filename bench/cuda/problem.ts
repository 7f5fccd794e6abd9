// Logits on the device, and what is right for them in float64. A block of random rows is made here and repeated there by
// copies within the device, so that megabytes are uploaded and not gigabytes. Every row of [T, V] is memory of its own all
// the same, and far more of it than any cache holds.

import { allFinite, bytesPerElement, createProblem, roundTo, widen } from '../../dist/bench/problems/data.js';
import {
  gradientError,
  normError,
  requireWithin,
  sampledRows,
  softmaxSums,
  WrongResult,
} from '../../dist/bench/problems/float64.js';
import { timeCopy } from './device.mjs';

/**
 * @typedef {import('./device.mjs').Cuda} Cuda
 * @typedef {import('./device.mjs').DeviceTensor} DeviceTensor
 * @typedef {import('../../cli/dev/cuda-options.mjs').CudaShape} CudaShape
 * @typedef {import('../../dist/bench/problems/float64.js').RowTruth} RowTruth
 * @typedef {object} CudaProblem
 * @property {CudaShape} shape
 * @property {number} bytes of one [T, V] array
 * @property {Int32Array} targets [T]
 * @property {Float64Array} upstream [T] dL/dlogProbs, none of them 0: such rows would not be read
 * @property {DeviceTensor} logits
 * @property {DeviceTensor} work the logits again, for gradients in place
 * @property {DeviceTensor} out
 * @property {Float64Array} logProbs [T] exact
 * @property {Float64Array} entropy [T] exact
 * @property {(upstream: ArrayLike<number>) => RowTruth[]} truth of the sampled rows
 */

const BLOCK_ROWS = 64;
/** Spec section 8. */
const TOLERANCE = { value: 1e-6, gradient: { f32: 2e-6, bf16: 4e-3, f16: 5e-4 } };

/** @param {DeviceTensor} tensor @param {number} row @param {number} rows */
function rowsOf(tensor, row, rows) {
  const { device, dtype, rowStride, shape } = tensor;
  const pointer = tensor.pointer + BigInt(row * rowStride * bytesPerElement(dtype));
  return device.wrap({ pointer, shape: [rows, shape[1]], dtype, rowStride, owner: tensor });
}

/** Fills a tensor by doubling what is there already. @param {Cuda} cuda @param {DeviceTensor} tensor @param {Float32Array | Uint16Array} block */
function fill(cuda, tensor, block) {
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

/** @param {Cuda} cuda @param {CudaShape} shape @param {number} seed @returns {CudaProblem} */
export function createCudaProblem(cuda, shape, seed) {
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
  const truth = (/** @type {ArrayLike<number>} */ grads) =>
    sampledRows(tokens).map((row) => {
      const r = row % blockRows;
      const { maximum, logSum } = rows[r];
      const x = widen(data, dtype, r * vocab, (r + 1) * vocab);
      const gradient = x.map((value) => -grads[row] * Math.exp(value - maximum - logSum));
      gradient[targets[row]] += grads[row];
      return { row, logProb: logProbs[row], entropy: entropy[row], gradient };
    });

  const empty = () => cuda.device.empty([tokens, vocab], dtype);
  const [logits, work, out] = [empty(), empty(), empty()];
  for (const tensor of [logits, work, out]) fill(cuda, tensor, data); // `out` too: no array is ever all zeros
  const bytes = tokens * vocab * bytesPerElement(dtype);
  return { shape, bytes, targets, upstream, logits, work, out, logProbs, entropy, truth };
}

/** Gives the memory back. @param {CudaProblem} problem */
export function disposeProblem({ logits, work, out }) {
  for (const tensor of [logits, work, out]) tensor.dispose();
}

/** The error over all rows. @param {string} name @param {ArrayLike<number>} values [T] @param {Float64Array} exact [T] */
export function checkValues(name, values, exact) {
  const error = normError(values, exact);
  requireWithin(name, error, TOLERANCE.value);
  return error;
}

/** The error over the sampled rows of a gradient. @param {string} name @param {CudaProblem} problem @param {DeviceTensor} gradient @param {ArrayLike<number>} upstream */
export function checkGradient(name, { shape: { vocab, dtype }, truth }, gradient, upstream) {
  const error = gradientError((row) => {
    const bits = rowsOf(gradient, row, 1).downloadSync();
    if (!allFinite(bits, dtype)) throw new WrongResult(`${name}: row ${row} is not finite`);
    return widen(bits, dtype, 0, vocab);
  }, truth(upstream));
  requireWithin(name, error, TOLERANCE.gradient[dtype]);
  return error;
}

/** Throws where most elements of the sampled rows are 0: zeros are not timed. @param {string} name @param {DeviceTensor} tensor */
export function requireNonZero(name, tensor) {
  for (const row of sampledRows(tensor.shape[0])) {
    const values = Array.from(rowsOf(tensor, row, 1).downloadSync());
    if (values.filter((x) => x === 0).length > values.length / 2)
      throw new WrongResult(`${name}: row ${row} is mostly zeros`);
  }
}
