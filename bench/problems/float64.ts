// The exact results of the token level in float64, written independently of the package's kernels, and how far an answer is
// from them.
import type { DType } from '../../lib/index.js';
import { allFinite, type Elements, type TokenProblem, widen } from './data.js';

/** One row of the logits, exactly. */
export interface RowTruth {
  readonly row: number;
  readonly logProb: number;
  readonly entropy: number;
  readonly gradient: Float64Array; // [V] times the upstream gradient of the row
}

const SAMPLED_ROWS = 8;

/** Rows to check: the first, the last, and some between. */
export function sampledRows(tokens: number): number[] {
  const count = Math.min(tokens, SAMPLED_ROWS);
  return Array.from({ length: count }, (_, k) => (count === 1 ? 0 : Math.round((k * (tokens - 1)) / (count - 1))));
}

/** Of the sampled rows of `logits`, [T, V] as `dtype`. */
export function truthOf(
  { shape: { tokens, vocab }, targets, upstream }: Omit<TokenProblem, 'logits'>,
  dtype: DType,
  logits: Elements,
): RowTruth[] {
  return sampledRows(tokens).map((row) => {
    const x = widen(logits, dtype, row * vocab, (row + 1) * vocab);
    const sums = softmaxSums(x);
    const gradient = exactGradient(x, sums, targets[row], upstream[row]);
    return { row, logProb: x[targets[row]] - sums.maximum - sums.logSum, entropy: sums.entropy, gradient };
  });
}

/** Of one row's logits, times its upstream gradient. */
export function exactGradient(
  x: Float64Array,
  { maximum, logSum }: SoftmaxSums,
  target: number,
  upstream: number,
): Float64Array {
  const gradient = x.map((value) => -upstream * Math.exp(value - maximum - logSum));
  gradient[target] += upstream;
  return gradient;
}

/** [T] log-probs of every row. */
export function exactLogProbs(
  { shape: { vocab }, targets }: TokenProblem,
  dtype: DType,
  logits: Elements,
): Float64Array {
  return Float64Array.from(targets, (target, row) => {
    const x = widen(logits, dtype, row * vocab, (row + 1) * vocab);
    const { maximum, logSum } = softmaxSums(x);
    return x[target] - maximum - logSum;
  });
}

/** logsumexp is maximum + logSum. */
export interface SoftmaxSums {
  readonly maximum: number;
  readonly logSum: number;
  readonly entropy: number;
}

export function softmaxSums(x: Float64Array): SoftmaxSums {
  const maximum = x.reduce((a, b) => Math.max(a, b));
  let sum = 0;
  let weighted = 0;
  for (const value of x) {
    const e = Math.exp(value - maximum);
    sum += e;
    weighted += e * (value - maximum);
  }
  return { maximum, logSum: Math.log(sum), entropy: Math.log(sum) - weighted / sum };
}

/** A benchmark does not time a wrong result. */
export class WrongResult extends Error {}

/** The error of log-probs, or entropies, of all rows: relative, in the norm over the sampled ones. */
export function valueError(
  values: ArrayLike<number>,
  truth: readonly RowTruth[],
  field: 'logProb' | 'entropy',
): number {
  const all = Float64Array.from(values);
  if (!allFinite(all, 'f64')) throw new WrongResult(`${field}: not finite`);
  return normError(
    truth.map(({ row }) => all[row]),
    truth.map((row) => row[field]),
  );
}

/** The error of gradient rows: relative, in the norm over the sampled ones. */
export function gradientError(
  rowOf: (row: number) => ArrayLike<number>,
  truth: readonly Pick<RowTruth, 'row' | 'gradient'>[],
): number {
  let difference = 0;
  let size = 0;
  for (const { row, gradient } of truth) {
    const got = rowOf(row);
    for (let v = 0; v < gradient.length; v++) {
      difference += (got[v] - gradient[v]) ** 2;
      size += gradient[v] ** 2;
    }
  }
  return Math.sqrt(difference / (size || 1));
}

/** Near 0 a loss is a difference of larger terms: there its error is absolute. */
export const lossError = (value = Number.NaN, exact: number) => Math.abs(value - exact) / Math.max(1, Math.abs(exact));

/** ||values - exact|| / ||exact||; NaN where anything is NaN or the lengths differ. */
export function normError(values: ArrayLike<number>, exact: ArrayLike<number>): number {
  let difference = values.length === exact.length ? 0 : Number.NaN;
  let size = 0;
  for (let i = 0; i < exact.length; i++) {
    difference += (values[i] - exact[i]) ** 2;
    size += exact[i] ** 2;
  }
  return Math.sqrt(difference / (size || 1));
}

/** Throws unless `error` is within `tolerance`; a NaN is not. */
export function requireWithin(name: string, error: number, tolerance: number): void {
  if (error <= tolerance) return;
  throw new WrongResult(`${name}: relative error ${error} against float64, more than ${tolerance}`);
}
