// Results as lists of numbers by name, and how far two of them are apart.
import { tag } from '../../../lib/errors.js';
import { honest, isList, isPlain, isTypedArray, ownValue, tensorIn } from './arguments.js';
import { widened } from './data.js';

/** The numbers at a path of a result. */
export interface Figure {
  path: string;
  /** Of a typed array, or of a 16-bit tensor. */
  kind: string;
  numbers: ArrayLike<number>;
}

/** [T, V] of a tensor that a call gave back, without the padding. */
function tensorFigure(path: string, tensor: object): Figure | undefined {
  const found = tensorIn(tensor);
  if (!found) return undefined;
  const { data, rows, columns, stride } = found;
  if (!(rows * columns <= data.length)) return undefined; // no result: an object of the caller's
  const dtype = ownValue(tensor, 'dtype');
  const kind = tag(data) === 'Float16Array' ? 'f16' : typeof dtype === 'string' ? dtype : 'f32';
  const wide = data instanceof Uint16Array ? widened(data, kind) : (data as ArrayLike<number>);
  const numbers = new Float64Array(rows * columns);
  for (let i = 0; i < numbers.length; i++) numbers[i] = wide[Math.floor(i / columns) * stride + (i % columns)];
  return { path, kind, numbers };
}

const DEEPEST = 5;

/** Every number in a result. Objects of the caller's, which may be anything, are left alone unless they are plain. */
export function figuresOf(value: unknown, path = '', into: Figure[] = [], depth = 0): Figure[] {
  if (typeof value === 'number') into.push({ path, kind: 'number', numbers: [value] });
  else if (typeof value === 'boolean') into.push({ path, kind: 'boolean', numbers: [Number(value)] });
  else if (isTypedArray(value)) {
    const numbers = honest(value);
    if (!(numbers instanceof BigInt64Array)) into.push({ path, kind: tag(numbers), numbers });
  } else if ((isPlain(value) || isList(value)) && depth < DEEPEST) {
    const tensor = tensorFigure(path, value);
    if (tensor) into.push(tensor);
    else if (!Object.hasOwn(value, 'data')) {
      for (const [key, { value: part }] of Object.entries(Object.getOwnPropertyDescriptors(value))) {
        figuresOf(part, path === '' ? key : `${path}.${key}`, into, depth + 1);
      }
    }
  }
  return into;
}

/**
 * The same with rows of `gradLogits` times `rowScale`, where there is one: a scale that is 0 and one that is next to nothing mean
 * the same, but rows of zeros and others.
 */
export function scaledFigures(figures: readonly Figure[]): Figure[] {
  const scale = figures.find(({ path }) => path === 'rowScale')?.numbers;
  return figures.map((figure) => {
    if (!scale || figure.path !== 'gradLogits' || figure.numbers.length % scale.length !== 0) return figure;
    const vocab = figure.numbers.length / scale.length;
    const scaled = Float64Array.from(figure.numbers, (entry, i) => entry * scale[Math.floor(i / vocab)]);
    return { ...figure, numbers: scaled };
  });
}

/** What is there, in words, for a comparison of shapes. */
const outline = (figures: readonly Figure[]) =>
  figures.map(({ path, kind, numbers }) => `${path} ${kind} ${numbers.length}`).join(', ');

/** Differences of given log-probs, which may be infinite themselves. */
const OF_GIVEN = /^metrics\.rollout(Kl|LogProbDiff)/;

/** The first number that is not finite, or NaN; with `givenInfinite`, some of the metrics may be infinite. */
export function nonFinite(figures: readonly Figure[], givenInfinite: boolean): string | undefined {
  for (const { path, numbers } of figures) {
    const mayBeInfinite = givenInfinite && OF_GIVEN.test(path);
    for (let i = 0; i < numbers.length; i++) {
      const good = Number.isFinite(numbers[i]) || (mayBeInfinite && !Number.isNaN(numbers[i]));
      if (!good) return `${path}[${i}] is ${numbers[i]}`;
    }
  }
  return undefined;
}

export function bitwiseDifference(a: readonly Figure[], b: readonly Figure[]): string | undefined {
  if (outline(a) !== outline(b)) return `${outline(a)} and ${outline(b)}`;
  for (const [k, { path, numbers }] of a.entries()) {
    for (let i = 0; i < numbers.length; i++) {
      const [x, y] = [numbers[i], b[k].numbers[i]];
      if (!Object.is(x, y)) return `${path}[${i}] is ${x} and ${y}`;
    }
  }
  return undefined;
}

/** ||a - b||, and ||b||, scaled so that neither overflows; without the same infinity in both. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): { apart: number; size: number } {
  const alike = (i: number) => a[i] === b[i] && !Number.isFinite(a[i]);
  let largest = 0;
  for (let i = 0; i < b.length; i++) if (!alike(i)) largest = Math.max(largest, Math.abs(a[i]), Math.abs(b[i]));
  if (largest === 0) return { apart: 0, size: 0 };
  let [apart, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    if (alike(i)) continue;
    apart += (a[i] / largest - b[i] / largest) ** 2;
    size += (b[i] / largest) ** 2;
  }
  return { apart: Math.sqrt(apart) * largest, size: Math.sqrt(size) * largest };
}

/**
 * What rounding to a type adds at least: half a unit in the last place of its smallest numbers. Kernels that compute in float32 take
 * probabilities below 2^-126 for 0, and multiply them with what comes from upstream.
 */
const FLOORS: Readonly<Record<string, number>> = {
  f16: 2 ** -25,
  bf16: 2 ** -110,
  f32: 2 ** -110,
  Float32Array: 2 ** -110,
};

/** Relative, in the norm; docs/spec.md, section 8. */
export interface Tolerances {
  /** Of the token level, for batches from logits; of the rest. */
  value: number;
  /** Log-probs: each of them absolutely, and times its size where that is above 1. */
  logProb: number;
}

const DTYPE_TOLERANCES: Readonly<Record<string, number>> = { bf16: 4e-3, f16: 5e-4 };

function within({ path, kind, numbers: actual }: Figure, expected: ArrayLike<number>, by: Tolerances, slack: number) {
  if (path.endsWith('logProbs')) {
    for (let t = 0; t < expected.length; t++) {
      const bound = by.logProb * Math.max(1, Math.abs(expected[t])) + slack;
      if (!(Math.abs(actual[t] - expected[t]) <= bound)) return false;
    }
    return true;
  }
  const { apart, size } = distance(actual, expected);
  const tolerance = DTYPE_TOLERANCES[kind] ?? by.value;
  const floor = (FLOORS[kind] ?? 0) * Math.sqrt(actual.length);
  return apart <= tolerance * size + floor + slack;
}

/**
 * Where `actual` is further from `expected` than allowed. `spread` gives results of the expected computation on inputs that
 * differ by roundings: what they differ by is allowed too. It is asked for only where it is needed.
 */
export function distantFigure(
  actual: readonly Figure[],
  expected: readonly Figure[],
  tolerances: Tolerances,
  spread: () => readonly (readonly Figure[])[] | undefined,
): string | undefined {
  if (outline(actual) !== outline(expected)) return `${outline(actual)}, and of the reference ${outline(expected)}`;
  let neighbours: readonly (readonly Figure[])[] | undefined;
  for (const [k, figure] of actual.entries()) {
    const { numbers } = expected[k];
    if (within(figure, numbers, tolerances, 0)) continue;
    neighbours ??= spread();
    if (neighbours === undefined) return undefined;
    const slack = Math.max(
      TINY,
      ...neighbours.map((other) => distanceAt(other[k], expected[k])),
      cancelled(figure.path, expected),
    );
    if (within(figure, numbers, tolerances, 4 * slack)) continue;
    return `${figure.path} is ${short(figure.numbers)}, of the reference ${short(numbers)}`;
  }
  return undefined;
}

/** Below this, float64 has lost digits to underflow. */
const TINY = 1e-290;

/** What differences of scores may differ by: scores are added up in another order. */
function cancelled(path: string, expected: readonly Figure[]): number {
  if (path.includes('grad')) return 0;
  const scores = expected.find((other) => other.path === 'scores')?.numbers ?? [];
  return 16 * Number.EPSILON * Array.from(scores).reduce((most, score) => Math.max(most, Math.abs(score)), 1);
}

/** 0 where the other result is of another form; Infinity where it is not finite, and nothing can be said. */
function distanceAt(other: Figure | undefined, expected: Figure): number {
  if (other?.path !== expected.path || other.numbers.length !== expected.numbers.length) return 0;
  const { apart } = distance(other.numbers, expected.numbers);
  return Number.isFinite(apart) ? apart : Infinity;
}

function short(numbers: ArrayLike<number>): string {
  const shown = Array.from({ length: Math.min(numbers.length, 12) }, (_, i) => numbers[i]).join(', ');
  return numbers.length > 12 ? `[${shown}, ...]` : `[${shown}]`;
}
