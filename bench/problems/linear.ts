// The last layer to measure on, and its exact log-probs and gradients in float64.
import type { DType, HostTensor } from '../../lib/index.js';
import { availableMemory } from '../machine.js';
import { formatShape } from '../report/figures.js';
import { allFinite, bytesPerElement, type Elements, roundTo, widen } from './data.js';
import {
  exactGradient,
  gradientError,
  type RowTruth,
  requireWithin,
  sampledRows,
  softmaxSums,
  WrongResult,
} from './float64.js';
import { Random } from './random.js';
import type { Rollouts } from './rollouts.js';

/** hidden [T, d], weight [V, d] */
export interface LinearShape {
  readonly tokens: number;
  readonly vocab: number;
  readonly width: number;
}

export interface LinearProblem {
  readonly shape: LinearShape;
  readonly hidden: Float32Array; // [T, d]
  readonly weight: Float32Array; // [V, d]
  readonly targets: Int32Array; // [T]
  readonly upstream: Float64Array; // [T] dL/dlogProbs, each a float32 value
}

/** A contiguous matrix. */
export type Matrix = HostTensor & { readonly data: Elements; readonly dtype: DType };

/** The problem's matrices in one dtype. */
export interface LinearLayer {
  readonly dtype: DType;
  readonly hidden: Matrix;
  readonly weight: Matrix;
}

/** 256 of them, uniform: every dtype has their multiples, so that all compute the same logits. */
const LEVELS = 256;
/** Of hidden states and weight; the logits have a standard deviation of about 3, as a language model's. */
const STEPS = { hidden: 2 ** -6, weight: 2 ** -10 };

export function createLinearProblem(shape: LinearShape, seed: number): LinearProblem {
  const { tokens, vocab, width } = shape;
  const random = new Random(seed);
  const matrix = (elements: number, step: number) => {
    const values = new Float32Array(elements);
    for (let i = 0; i < elements; i++) values[i] = (Math.floor(random.uniform() * LEVELS) - LEVELS / 2) * step;
    return values;
  };
  const upstream = new Float32Array(tokens);
  random.fillNormal(upstream);
  return {
    shape,
    hidden: matrix(tokens * width, STEPS.hidden),
    weight: matrix(vocab * width, STEPS.weight),
    targets: Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab)),
    upstream: Float64Array.from(upstream),
  };
}

export function layerOf({ shape: { tokens, vocab, width }, hidden, weight }: LinearProblem, dtype: DType): LinearLayer {
  return {
    dtype,
    hidden: { data: roundTo(hidden, dtype), shape: [tokens, width], dtype },
    weight: { data: roundTo(weight, dtype), shape: [vocab, width], dtype },
  };
}

export function zeros(rows: number, width: number, dtype: DType): Matrix {
  const elements = rows * width;
  return {
    data: dtype === 'f32' ? new Float32Array(elements) : new Uint16Array(elements),
    shape: [rows, width],
    dtype,
  };
}

/** Operations of one of its matrix products: T * V * d products and sums. */
export const productFlops = ({ tokens, vocab, width }: LinearShape) => 2 * tokens * vocab * width;

/** Which gradients a task asks for. Each takes a matrix product, as the logits do. */
export type WantedGradients = readonly ('hidden' | 'weight')[];

/** The bytes and operations that a task has to move and do at least. */
export function linearCosts(shape: LinearShape, dtype: DType, gradients: WantedGradients) {
  const { tokens, vocab, width } = shape;
  const bytes = { hidden: tokens * width * bytesPerElement(dtype), weight: vocab * width * bytesPerElement(dtype) };
  const written = gradients.reduce((sum, matrix) => sum + bytes[matrix], 0);
  return {
    moves: { read: bytes.hidden + bytes.weight, copied: 0, written },
    memoryBound: false,
    flops: (1 + gradients.length) * productFlops(shape),
  };
}

/** Fails before anything is allocated, as `requireMemory` of logits. */
export function requireLinearMemory(shape: LinearShape, dtypes: readonly DType[], peers: number): void {
  const { tokens, vocab, width } = shape;
  const layer = (tokens + vocab) * width;
  const logits = 4 * tokens * vocab;
  const own = dtypes.reduce((sum, dtype) => sum + 2 * layer * bytesPerElement(dtype), 8 * layer + 3 * logits);
  const inCall = 8 * layer + 4 * logits; // in another process: of a peer, or one of ours whose peak is measured
  const needed = own + inCall + 6 * layer * peers; // f32 and bf16
  const free = availableMemory();
  if (needed <= 0.8 * free) return;
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  throw new Error(
    `${formatShape(shape)} needs ${gib(needed)} for its arrays, and ${gib(free)} is left: ask for fewer --tokens, or another --preset`,
  );
}

/** What is known exactly: some rows of the hidden states' gradient, and some of the weight's. */
export interface LinearTruth {
  /** `gradient`: of the row's log-prob to its hidden state, [d]. */
  readonly rows: readonly RowTruth[];
  /** Of each log-prob, [T], to one column of the logits. */
  readonly columns: readonly { readonly column: number; readonly gradients: Float64Array }[];
}

/** What all contenders of one shape share. */
export interface LinearArena {
  readonly problem: LinearProblem;
  readonly truth: LinearTruth;
  /** Of all rows, from the forward pass that `truth` was compared with. */
  readonly logProbs: Float64Array;
  /** For losses. */
  readonly rollouts: LossRollouts;
}

export type LossRollouts = Rollouts & { readonly oldLogProbs: Float64Array };

export function linearRowsTruth({ shape, hidden, weight, targets }: LinearProblem): RowTruth[] {
  const { tokens, vocab, width } = shape;
  return sampledRows(tokens).map((row) => {
    const h = Float64Array.from(hidden.subarray(row * width, (row + 1) * width));
    const logits = Float64Array.from({ length: vocab }, (_, v) => dot(h, weight, v * width));
    const sums = softmaxSums(logits);
    const toLogits = exactGradient(logits, sums, targets[row], 1);
    const gradient = new Float64Array(width);
    for (let v = 0; v < vocab; v++) {
      const factor = toLogits[v];
      for (let k = 0; k < width; k++) gradient[k] += factor * weight[v * width + k];
    }
    const logProb = logits[targets[row]] - sums.maximum - sums.logSum;
    return { row, logProb, entropy: sums.entropy, gradient };
  });
}

/**
 * A column of the logits' gradient needs the logsumexp of every row, which would take minutes in JavaScript: `logSumExp` is that of
 * a forward pass whose log-probs have been compared with `rows`.
 */
export function linearTruth(problem: LinearProblem, rows: readonly RowTruth[], logSumExp: Float64Array): LinearTruth {
  const { shape, hidden, weight, targets } = problem;
  const { vocab, width } = shape;
  const columns = [...new Set([...sampledRows(vocab), targets[0]])].map((column) => {
    const w = Float64Array.from(weight.subarray(column * width, (column + 1) * width));
    const gradients = logSumExp.map((sum, t) => {
      return (targets[t] === column ? 1 : 0) - Math.exp(dot(w, hidden, t * width) - sum);
    });
    return { column, gradients };
  });
  return { rows, columns };
}

function dot(a: Float64Array, b: Float32Array, offset: number): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[offset + k];
  return sum;
}

/** A matrix's rows, as far as somebody has them. */
export type RowsOf = (row: number) => ArrayLike<number>;

/** Rows of a gradient as float64, if all of it is finite. */
export function tensorRows({ data, dtype, shape: [, width] }: Matrix, name: string): RowsOf {
  if (!allFinite(data, dtype)) throw new WrongResult(`${name}: not finite`);
  return (row) => widen(data, dtype, row * width, (row + 1) * width);
}

/** Of the gradients that are there; throws if they are further from float64 than `tolerance`. */
export function checkLinearGradients(
  name: string,
  { hidden, weight }: { readonly hidden?: RowsOf; readonly weight?: RowsOf },
  upstream: ArrayLike<number>,
  { problem, truth }: LinearArena,
  tolerance: number,
): number {
  const errors: number[] = [];
  if (hidden) errors.push(gradientError(hidden, hiddenTruth(truth, upstream)));
  if (weight) errors.push(gradientError(weight, weightTruth(problem, truth, upstream)));
  for (const error of errors) requireWithin(name, error, tolerance);
  return Math.max(...errors);
}

function hiddenTruth({ rows }: LinearTruth, upstream: ArrayLike<number>) {
  return rows.map(({ row, gradient }) => ({ row, gradient: gradient.map((x) => upstream[row] * x) }));
}

function weightTruth(
  { shape: { width }, hidden }: LinearProblem,
  { columns }: LinearTruth,
  upstream: ArrayLike<number>,
) {
  return columns.map(({ column, gradients }) => {
    const gradient = new Float64Array(width);
    gradients.forEach((factor, t) => {
      for (let k = 0; k < width; k++) gradient[k] += upstream[t] * factor * hidden[t * width + k];
    });
    return { row: column, gradient };
  });
}
