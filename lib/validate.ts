// Checks of arguments, shared by every op and loss. Each throws an RlvrError that names the argument; all run before
// anything is written.
import { badArgument, describe, tag } from './errors.js';

/** Per-token and per-sequence numbers: float64 inside, either float type from outside. */
export type FloatArray = Float32Array | Float64Array;

interface ArrayTypes {
  Float32Array: Float32Array;
  Float64Array: Float64Array;
  Int32Array: Int32Array;
  BigInt64Array: BigInt64Array;
  Uint8Array: Uint8Array;
  Uint16Array: Uint16Array;
}

/** A typed array of one of the given types, whose memory cannot be shrunk while an op runs. */
export function typedArray<K extends keyof ArrayTypes>(
  name: string,
  value: unknown,
  types: readonly K[],
): ArrayTypes[K] {
  if (!ArrayBuffer.isView(value) || !types.includes(tag(value) as K)) {
    throw badArgument('ERR_DTYPE', name, types.join(' or '), describe(value));
  }
  const { resizable, growable } = value.buffer as { resizable?: boolean; growable?: boolean };
  if (resizable === true || growable === true) {
    throw badArgument('ERR_DTYPE', name, 'an array on a buffer of fixed length', 'one on a resizable buffer');
  }
  if (value.byteLength === 0 && isDetached(value.buffer)) {
    throw badArgument('ERR_DTYPE', name, 'a non-detached array', 'one whose buffer was transferred (detached)');
  }
  return value as ArrayTypes[K];
}

function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer); // throws on a detached buffer; ArrayBuffer.prototype.detached came after Node 20
    return false;
  } catch {
    return true;
  }
}

/** As typedArray, of exactly `length` elements. */
export function arrayOf<K extends keyof ArrayTypes>(
  name: string,
  value: unknown,
  types: readonly K[],
  length: number,
  meaning: string,
): ArrayTypes[K] {
  const array = typedArray(name, value, types);
  if (array.length !== length) {
    throw badArgument('ERR_SHAPE', name, `length ${length} (${meaning})`, `length ${array.length}`);
  }
  return array;
}

/** `length` floats as float64; the array itself when it already is. */
export function floats(name: string, value: unknown, length: number, meaning: string): Float64Array {
  const array = arrayOf(name, value, ['Float32Array', 'Float64Array'], length, meaning);
  return tag(array) === 'Float64Array' ? (array as Float64Array) : new Float64Array(array);
}

/** Whether every value is finite: 0 times one that is not is NaN. Four sums, since an addition waits for the one before. */
export function allFinite(array: Float64Array): boolean {
  let [a, b, c, d] = [0, 0, 0, 0];
  const rest = array.length % 4;
  for (let i = 0; i < rest; i++) a += 0 * array[i];
  for (let i = rest; i < array.length; i += 4) {
    a += 0 * array[i];
    b += 0 * array[i + 1];
    c += 0 * array[i + 2];
    d += 0 * array[i + 3];
  }
  return a + b + c + d === 0;
}

/** As floats, every value finite. */
export function finiteFloats(name: string, value: unknown, length: number, meaning: string): Float64Array {
  const array = floats(name, value, length, meaning);
  if (allFinite(array)) return array;
  for (let i = 0; i < length; i++) {
    if (!Number.isFinite(array[i]))
      throw badArgument('ERR_NONFINITE', name, 'finite values', `${array[i]} at index ${i}`);
  }
  return array;
}

/** [N] token counts: finite, at least 0. */
export function tokenCounts(value: unknown, sequences: number): Float64Array {
  const counts = finiteFloats('tokenCounts', value, sequences, 'N, one count per sequence');
  const negative = counts.findIndex((n) => n < 0);
  if (negative === -1) return counts;
  throw badArgument('ERR_RANGE', 'tokenCounts', 'counts of at least 0', `${counts[negative]} at index ${negative}`);
}

/** As floats, no NaN where the mask keeps the token (`remedy`: what else helps). Infinities pass: log-ratios are clamped. */
export function maskedFloats(
  name: string,
  value: unknown,
  length: number,
  mask: Uint8Array | undefined,
  remedy = '',
): Float64Array {
  const array = floats(name, value, length, 'T, one value per token');
  if (allFinite(array)) return array;
  for (let t = 0; t < length; t++) {
    if (Number.isNaN(array[t]) && mask?.[t] !== 0) {
      throw badArgument('ERR_NONFINITE', name, `no NaN at unmasked tokens${remedy}`, `NaN at index ${t}`);
    }
  }
  return array;
}

/** As floats, every value finite where the mask keeps the token. */
export function maskedFinite(name: string, value: unknown, length: number, mask: Uint8Array | undefined): Float64Array {
  const array = floats(name, value, length, 'T, one value per token');
  if (allFinite(array)) return array;
  for (let t = 0; t < length; t++) {
    if (!Number.isFinite(array[t]) && mask?.[t] !== 0) {
      throw badArgument('ERR_NONFINITE', name, 'finite values at unmasked tokens', `${array[t]} at index ${t}`);
    }
  }
  return array;
}

/**
 * Offsets that start at 0 and do not decrease, ending at `total` where that is known. A copy: the caller may change
 * theirs while an op runs.
 */
export function offsets(name: string, value: unknown, total?: number, of?: string): Int32Array {
  const array = typedArray(name, value, ['Int32Array']);
  if (array.length === 0) throw badArgument('ERR_SHAPE', name, 'at least one offset', 'length 0');
  if (array[0] !== 0) throw badArgument('ERR_RANGE', name, 'offsets starting at 0', `${array[0]} at index 0`);
  for (let i = 1; i < array.length; i++) {
    if (array[i] < array[i - 1]) {
      throw badArgument(
        'ERR_RANGE',
        name,
        'offsets that do not decrease',
        `${array[i]} after ${array[i - 1]} at index ${i}`,
      );
    }
  }
  const last = array[array.length - 1];
  if (total !== undefined && last !== total)
    throw badArgument('ERR_SHAPE', name, `a last offset of ${total} (${of})`, `${last}`);
  return array.slice();
}

/** The check's result for an argument that may be left out; only `undefined` counts as left out. */
export function optional<T>(value: unknown, check: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : check(value);
}

export function optionalMask(value: unknown, tokens: number): Uint8Array | undefined {
  return optional(value, (mask) => arrayOf('mask', mask, ['Uint8Array'], tokens, 'T, one flag per token'));
}

/** The arrays that token ids may come in. */
export const ID_ARRAYS = ['Int32Array', 'BigInt64Array'] as const;

/** Target ids, each in [0, vocab) where the mask keeps the token. 64-bit ids are copied to 32 bits. */
export function targetIds(value: unknown, tokens: number, vocab: number, mask: Uint8Array | undefined): Int32Array {
  const given = arrayOf('targets', value, ID_ARRAYS, tokens, 'T, one id per token');
  const ids = tag(given) === 'Int32Array' ? (given as Int32Array) : Float64Array.from(given, Number);
  for (let t = 0; t < tokens; t++) {
    if ((ids[t] < 0 || ids[t] >= vocab) && mask?.[t] !== 0) {
      throw badArgument('ERR_RANGE', 'targets', `ids in [0, ${vocab})`, `${given[t]} at index ${t}`);
    }
  }
  return ids instanceof Float64Array ? Int32Array.from(ids) : ids;
}

interface NumberRange {
  above?: number; // exclusive
  min?: number;
  max?: number;
  integer?: boolean;
  /** Infinity is allowed too: there is no bound. */
  unbounded?: boolean;
}

/** A finite number within bounds. */
export function finiteNumber(name: string, value: unknown, range: NumberRange = {}): number {
  const { above = -Infinity, min = -Infinity, max = Infinity, integer = false, unbounded = false } = range;
  if (unbounded && value === Infinity) return value;
  if (typeof value !== 'number') throw badArgument('ERR_RANGE', name, 'a number', describe(value));
  const inside = Number.isFinite(value) && value > above && value >= min && value <= max;
  if (inside && (!integer || Number.isInteger(value))) return value;
  const bounds = [
    above !== -Infinity && `above ${above}`,
    min !== -Infinity && `at least ${min}`,
    max !== Infinity && `at most ${max}`,
  ].filter((text) => text !== false);
  const kind = integer ? 'a whole number' : unbounded ? 'a number' : 'a finite number';
  throw badArgument('ERR_RANGE', name, [kind, bounds.join(' and ')].filter(Boolean).join(' '), String(value));
}

/** One of a few words. */
export function oneOf<W extends string>(name: string, value: unknown, words: readonly W[]): W {
  if (!words.includes(value as W)) {
    throw badArgument('ERR_RANGE', name, words.map((word) => `'${word}'`).join(' or '), describe(value));
  }
  return value as W;
}

/** The arguments object itself, so that a missing one fails by name. */
export function objectArgument<T extends object>(name: string, value: T | undefined): T {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) {
    throw badArgument('ERR_DTYPE', name, 'an object', describe(value));
  }
  return value;
}

/** The options argument of a public function: absent or an object. */
export function optionsArgument<O extends object>(options: O | undefined): Partial<O> {
  return options === undefined ? {} : objectArgument('options', options);
}
