// Plain arrays of numbers in place of typed ones, where a batch has few: one number for each sequence or group.
import { badArgument, describe, isArray } from './errors.js';
import { newArray } from './memory.js';

/** Numbers, few of them: a typed array, or a plain one, which is copied. */
export type Numbers = Float32Array | Float64Array | readonly number[];

/** Whole numbers, few of them: an `Int32Array`, or a plain array, which is copied. */
export type WholeNumbers = Int32Array | readonly number[];

/** The fields of a batch, and the inputs of ops, that may be plain arrays, and what is made of those. */
const LISTS = {
  cuSeqlens: wholeNumbers,
  cuGroups: wholeNumbers,
  groupOrder: wholeNumbers,
  rewards: numbers,
  advantages: numbers,
  scores: numbers,
  tokenCounts: numbers,
  gradScores: numbers,
  sides: numbers,
};

type Replaced<V, A> = V extends readonly number[] ? A : V;

/** `B` with typed arrays in place of plain ones. */
export type WithTypedArrays<B> = {
  [K in keyof B]: K extends 'cuSeqlens' | 'cuGroups' | 'groupOrder'
    ? Replaced<B[K], Int32Array>
    : K extends keyof typeof LISTS
      ? Replaced<B[K], Float64Array>
      : B[K];
};

/**
 * Replaces the plain arrays among fields by typed ones.
 *
 * @throws RlvrError `ERR_DTYPE`, `ERR_RANGE` naming the field and the index of what is no such number.
 */
export function replaceLists(fields: Record<string, unknown>): void {
  for (const name in LISTS) {
    const value = fields[name];
    if (isArray(value)) fields[name] = LISTS[name as keyof typeof LISTS](name, value);
  }
}

/** The numbers of a plain array. */
export function numbers(name: string, list: ArrayLike<unknown>): Float64Array {
  const values = newArray(name, Float64Array, list.length);
  for (let i = 0; i < values.length; i++) values[i] = numberAt(name, list[i], i);
  return values;
}

/** The whole numbers of a plain array. */
export function wholeNumbers(name: string, list: ArrayLike<unknown>): Int32Array {
  const values = newArray(name, Int32Array, list.length);
  for (let i = 0; i < values.length; i++) {
    const value = numberAt(name, list[i], i);
    values[i] = value;
    if (values[i] !== value) throw badArgument('ERR_RANGE', name, 'whole numbers of 32 bits', `${value} at index ${i}`);
  }
  return values;
}

function numberAt(name: string, value: unknown, index: number): number {
  if (typeof value === 'number') return value;
  throw badArgument('ERR_DTYPE', name, 'numbers', `${describe(value)} at index ${index}`);
}
