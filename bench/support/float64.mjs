// What is right, in float64, written apart from the package's own kernels; and how far an answer is from it.
import { allFinite, widen } from './data.mjs';

/**
 * @typedef {import('./data.mjs').DType} DType
 * @typedef {import('./data.mjs').Problem} Problem
 * @typedef {object} RowTruth
 * @property {number} row
 * @property {number} logProb
 * @property {number} entropy
 * @property {Float64Array} gradient [V] times the upstream gradient of the row
 */

const SAMPLED_ROWS = 8;

/** Rows to check: the first, the last, and some between. @param {number} tokens */
export function sampledRows(tokens) {
  const count = Math.min(tokens, SAMPLED_ROWS);
  return Array.from({ length: count }, (_, k) => (count === 1 ? 0 : Math.round((k * (tokens - 1)) / (count - 1))));
}

/**
 * @param {Problem} problem
 * @param {DType} dtype
 * @param {Float32Array | Uint16Array} logits [T, V] as `dtype`
 * @returns {RowTruth[]}
 */
export function truthOf({ shape: { tokens, vocab }, targets, upstream }, dtype, logits) {
  return sampledRows(tokens).map((row) => {
    const x = widen(logits, dtype, row * vocab, (row + 1) * vocab);
    return { row, ...rowTruth(x, targets[row], upstream[row]) };
  });
}

/** @param {Float64Array} x @param {number} target @param {number} upstream */
function rowTruth(x, target, upstream) {
  const maximum = x.reduce((a, b) => Math.max(a, b));
  let sum = 0;
  let weighted = 0;
  for (const value of x) {
    const e = Math.exp(value - maximum);
    sum += e;
    weighted += e * (value - maximum);
  }
  const logSum = Math.log(sum);
  const gradient = x.map((value) => -upstream * Math.exp(value - maximum - logSum));
  gradient[target] += upstream;
  return { logProb: x[target] - maximum - logSum, entropy: logSum - weighted / sum, gradient };
}

/** A harness does not time a wrong result. */
export class WrongResult extends Error {}

/**
 * The error of log-probs, or entropies, of all rows: relative, in the norm over the sampled ones.
 * @param {ArrayLike<number>} values [T]
 * @param {RowTruth[]} truth
 * @param {'logProb' | 'entropy'} field
 */
export function valueError(values, truth, field) {
  const all = Float64Array.from(values);
  if (!allFinite(all, 'f64')) throw new WrongResult(`${field}: not finite`);
  return normError(
    truth.map(({ row }) => all[row]),
    truth.map((row) => row[field]),
  );
}

/**
 * The error of gradient rows: relative, in the norm over the sampled ones.
 * @param {(row: number) => Float64Array} rowOf
 * @param {RowTruth[]} truth
 */
export function gradientError(rowOf, truth) {
  let difference = 0;
  let size = 0;
  for (const { row, gradient } of truth) {
    const got = rowOf(row);
    gradient.forEach((exact, v) => {
      difference += (got[v] - exact) ** 2;
      size += exact ** 2;
    });
  }
  return Math.sqrt(difference / size);
}

/** @param {number[]} values @param {number[]} exact */
function normError(values, exact) {
  return Math.hypot(...exact.map((x, i) => values[i] - x)) / Math.hypot(...exact);
}

/**
 * Throws unless `error` is within `tolerance`; a NaN is not.
 * @param {string} name @param {number} error @param {number} tolerance
 */
export function requireWithin(name, error, tolerance) {
  if (error <= tolerance) return;
  throw new WrongResult(`${name}: relative error ${error} against float64, more than ${tolerance}`);
}
