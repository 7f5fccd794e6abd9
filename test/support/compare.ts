// Comparison by the contract's measure: the norm of the difference over the norm of the expected values. NaN never passes.
import { expect } from 'vitest';
import { normError } from '../../bench/problems/float64.js';

type Numbers = ArrayLike<number>;

export function expectClose(actual: Numbers, expected: Numbers, tolerance: number, what = 'relative error'): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  const error = normError(actual, expected);
  if (!(error <= tolerance)) expect.fail(`${what}: ${error} is not within ${tolerance}`);
}

/** As expectClose, for single numbers; `floor` is the scale below which the error is absolute. */
export function expectCloseNumber(actual: number, expected: number, tolerance: number, floor = 0): void {
  const error = Math.abs(actual - expected) / Math.max(Math.abs(expected), floor || Number.MIN_VALUE);
  if (actual !== expected && !(error <= tolerance)) {
    expect.fail(`${actual} is not within ${tolerance} of ${expected} (error ${error})`);
  }
}

/** Every log-prob within the contract's absolute bound. */
export function expectLogProbsClose(actual: Numbers, expected: Numbers): void {
  for (let t = 0; t < expected.length; t++) {
    const bound = 1e-6 * Math.max(1, Math.abs(expected[t]));
    if (!(Math.abs(actual[t] - expected[t]) <= bound)) {
      expect.fail(`log-prob ${t}: ${actual[t]} is not within ${bound} of ${expected[t]}`);
    }
  }
}

/** No number in a value, wherever it is in it, is NaN or infinite. */
export function expectFinite(value: unknown): void {
  expect(numbersIn(value).filter((x) => !Number.isFinite(x))).toEqual([]);
}

function numbersIn(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  if (isTypedArray(value)) return Array.from(value);
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

/** Whether two typed arrays are of one type and equal to the bit, as `toEqual` has it; undefined for anything else. */
export function sameElements(a: unknown, b: unknown): boolean | undefined {
  if (!isTypedArray(a) || !isTypedArray(b)) return undefined;
  if (a.constructor !== b.constructor || a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return true;
}

function isTypedArray(value: unknown): value is Float64Array {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}
