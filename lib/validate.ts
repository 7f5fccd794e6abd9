// Checks of arguments, shared by every op and loss. Each throws an RlvrError that names the argument; all run before
// anything is written.
import { badArgument, describe, isRevoked, tag } from './errors.js';
import { newArray } from './memory.js';
import { atOnceIfShort, findIndex, type Sliced, slices } from './slices.js';
import { type ArrayTypes, type ElementType, isDetached, isResizable, plainView, typedArrayType } from './views.js';

/** Per-token and per-sequence numbers: float64 inside, either float type from outside. */
export type FloatArray = Float32Array | Float64Array;

/**
 * A typed array of one of the given types, whose memory cannot be shrunk while an op runs. The result is a view of its own, so
 * that nothing of a subclass or of the caller's comes between: where the caller's array itself is wanted, keep that.
 */
export function typedArray<K extends ElementType>(name: string, value: unknown, types: readonly K[]): ArrayTypes[K] {
  const type = typedArrayType(value) as K;
  if (!ArrayBuffer.isView(value) || !types.includes(type)) {
    throw badArgument('ERR_DTYPE', name, types.join(' or '), describe(value));
  }
  if (isResizable(value)) {
    throw badArgument('ERR_DTYPE', name, 'an array on a buffer of fixed length', 'one on a resizable buffer');
  }
  if (isDetached(value)) {
    throw badArgument('ERR_DTYPE', name, 'a non-detached array', 'one whose buffer was transferred (detached)');
  }
  return plainView(type, value);
}

/** As typedArray, of exactly `length` elements. */
export function arrayOf<K extends ElementType>(
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
export function* floats(name: string, value: unknown, length: number, meaning: string): Sliced<Float64Array> {
  const array = arrayOf(name, value, ['Float32Array', 'Float64Array'], length, meaning);
  return isFloat64(array) ? array : yield* converted(name, array);
}

function isFloat64(array: FloatArray): array is Float64Array {
  return tag(array) === 'Float64Array';
}

function* converted(name: string, array: FloatArray): Sliced<Float64Array> {
  const floats = newArray(name, Float64Array, array.length);
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) floats[i] = array[i];
  };
  if (!atOnceIfShort(floats.length, work)) yield* slices(floats.length, work);
  return floats;
}

/** Whether every value is finite. */
export function* allFinite(array: Float64Array): Sliced<boolean> {
  let finite = true;
  const work = (begin: number, end: number) => {
    finite &&= finiteBetween(array, begin, end);
  };
  if (!atOnceIfShort(array.length, work)) yield* slices(array.length, work);
  return finite;
}

/** 0 times a value that is not finite is NaN. Four sums, since an addition waits for the one before. */
function finiteBetween(array: Float64Array, begin: number, end: number): boolean {
  let [a, b, c, d] = [0, 0, 0, 0];
  const rest = begin + ((end - begin) % 4);
  for (let i = begin; i < rest; i++) a += 0 * array[i];
  for (let i = rest; i < end; i += 4) {
    a += 0 * array[i];
    b += 0 * array[i + 1];
    c += 0 * array[i + 2];
    d += 0 * array[i + 3];
  }
  return a + b + c + d === 0;
}

/** As floats, every value finite. */
export function* finiteFloats(name: string, value: unknown, length: number, meaning: string): Sliced<Float64Array> {
  const given = arrayOf(name, value, ['Float32Array', 'Float64Array'], length, meaning);
  const array = isFloat64(given) ? given : yield* converted(name, given);
  if (yield* allFinite(array)) return array;
  const i = yield* findIndex(length, (at) => !Number.isFinite(array[at]));
  throw badArgument('ERR_NONFINITE', name, 'finite values', `${array[i]} at index ${i}`);
}

/** [N] token counts: finite, at least 0. */
export function* tokenCounts(value: unknown, sequences: number): Sliced<Float64Array> {
  const counts = yield* finiteFloats('tokenCounts', value, sequences, 'N, one count per sequence');
  const negative = yield* findIndex(sequences, (i) => counts[i] < 0);
  if (negative === -1) return counts;
  throw badArgument('ERR_RANGE', 'tokenCounts', 'counts of at least 0', `${counts[negative]} at index ${negative}`);
}

/** As floats, no NaN where the mask keeps the token (`remedy`: what else helps). Infinities pass: log-ratios are clamped. */
export function* maskedFloats(
  name: string,
  value: unknown,
  length: number,
  mask: Uint8Array | undefined,
  remedy = '',
): Sliced<Float64Array> {
  const array = yield* floats(name, value, length, 'T, one value per token');
  if (yield* allFinite(array)) return array;
  const t = yield* findIndex(length, (at) => Number.isNaN(array[at]) && mask?.[at] !== 0);
  if (t === -1) return array;
  throw badArgument('ERR_NONFINITE', name, `no NaN at unmasked tokens${remedy}`, `NaN at index ${t}`);
}

/** As floats, every value finite where the mask keeps the token. */
export function* maskedFinite(
  name: string,
  value: unknown,
  length: number,
  mask: Uint8Array | undefined,
): Sliced<Float64Array> {
  const array = yield* floats(name, value, length, 'T, one value per token');
  if (yield* allFinite(array)) return array;
  const t = yield* findIndex(length, (at) => !Number.isFinite(array[at]) && mask?.[at] !== 0);
  if (t === -1) return array;
  throw badArgument('ERR_NONFINITE', name, 'finite values at unmasked tokens', `${array[t]} at index ${t}`);
}

/** Logits of up to 32 that were rounded to 16 bits after their logsumexp was taken put a log-prob up to 0.0625 above 0. */
const MOST_ROUNDING = 0.1;

const LOG_PROBS = 'log-probs, which are at most 0 (were probabilities or logits given?)';

/** Refuses log-probs of the current policy that are above 0 at unmasked tokens by more than any rounding. */
export function* notAboveZero(
  name: string,
  logProbs: Float64Array,
  mask: Uint8Array | undefined,
): Sliced<Float64Array> {
  let first = -1;
  const work = (begin: number, end: number) => {
    for (let t = begin; t < end && first === -1; t++) {
      if (logProbs[t] > MOST_ROUNDING && logProbs[t] !== Infinity && mask?.[t] !== 0) first = t;
    }
  };
  if (!atOnceIfShort(logProbs.length, work)) yield* slices(logProbs.length, work);
  if (first === -1) return logProbs;
  throw badArgument('ERR_RANGE', name, LOG_PROBS, `${logProbs[first]} at index ${first}`);
}

/**
 * Refuses constants that are not log-probs as a whole, as probabilities and logits are not: one is above 0, and fewer than a quarter are
 * below. Single ones above 0 pass: the golden cases have noise on log-probs of 0, and a ratio to one is as good as any.
 */
export function* plausibleLogProbs(
  name: string,
  logProbs: Float64Array,
  mask: Uint8Array | undefined,
): Sliced<Float64Array> {
  let [tokens, below, most] = [0, 0, -1]; // most: an index
  const work = (begin: number, end: number) => {
    for (let t = begin; t < end; t++) {
      if (mask?.[t] === 0) continue;
      tokens++;
      if (logProbs[t] < 0) below++;
      else if (most === -1 || logProbs[t] > logProbs[most]) most = t;
    }
  };
  if (!atOnceIfShort(logProbs.length, work)) yield* slices(logProbs.length, work);
  if (most === -1 || !(logProbs[most] > MOST_ROUNDING) || below >= tokens / 4) return logProbs;
  throw badArgument(
    'ERR_RANGE',
    name,
    LOG_PROBS,
    `${logProbs[most]} at index ${most}, and ${below} of ${tokens} below 0`,
  );
}

/**
 * Offsets that start at 0 and do not decrease, ending at `total` where that is known. A copy: the caller may change
 * theirs while an op runs.
 */
export function* offsets(name: string, value: unknown, total?: number, of?: string): Sliced<Int32Array> {
  const given = typedArray(name, value, ['Int32Array']);
  if (given.length === 0) throw badArgument('ERR_SHAPE', name, 'at least one offset', 'length 0');
  const copy = newArray(name, Int32Array, given.length);
  let decrease = 0; // index
  let previous = -Infinity;
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) {
      copy[i] = given[i];
      if (copy[i] < previous && decrease === 0) decrease = i;
      previous = copy[i];
    }
  };
  if (!atOnceIfShort(copy.length, work)) yield* slices(copy.length, work);
  if (copy[0] !== 0) throw badArgument('ERR_RANGE', name, 'offsets starting at 0', `${copy[0]} at index 0`);
  if (decrease > 0) {
    const got = `${copy[decrease]} after ${copy[decrease - 1]} at index ${decrease}`;
    throw badArgument('ERR_RANGE', name, 'offsets that do not decrease', got);
  }
  const last = copy[copy.length - 1];
  if (total !== undefined && last !== total)
    throw badArgument('ERR_SHAPE', name, `a last offset of ${total} (${of})`, `${last}`);
  return copy;
}

/** The check's result for an argument that may be left out; only `undefined` counts as left out. */
export function optional<T>(value: unknown, check: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : check(value);
}

/** As {@link optional}, for a check of every element. */
export function* ifGiven<V, T>(value: V | undefined, check: (value: V) => Sliced<T>): Sliced<T | undefined> {
  return value === undefined ? undefined : yield* check(value);
}

export function optionalMask(value: unknown, tokens: number): Uint8Array | undefined {
  return optional(value, (mask) => arrayOf('mask', mask, ['Uint8Array'], tokens, 'T, one flag per token'));
}

/** The arrays that token ids may come in. */
export const ID_ARRAYS = ['Int32Array', 'BigInt64Array'] as const;

/** Target ids, each in [0, vocab) where the mask keeps the token. 64-bit ids are copied to 32 bits. */
export function* targetIds(
  value: unknown,
  tokens: number,
  vocab: number,
  mask: Uint8Array | undefined,
): Sliced<Int32Array> {
  const given = arrayOf('targets', value, ID_ARRAYS, tokens, 'T, one id per token');
  const ids = tag(given) === 'Int32Array' ? (given as Int32Array) : yield* from64Bits(given as BigInt64Array);
  let outside = -1; // index
  const work = (begin: number, end: number) => {
    for (let t = begin; t < end && outside === -1; t++) {
      if ((ids[t] < 0 || ids[t] >= vocab) && mask?.[t] !== 0) outside = t;
    }
  };
  if (!atOnceIfShort(tokens, work)) yield* slices(tokens, work);
  if (outside === -1) return ids;
  throw badArgument('ERR_RANGE', 'targets', `ids in [0, ${vocab})`, `${given[outside]} at index ${outside}`);
}

/** Ids in 32 bits; -1 for those that need more. */
function* from64Bits(given: BigInt64Array): Sliced<Int32Array> {
  const ids = newArray('targets', Int32Array, given.length);
  yield* slices(ids.length, (begin, end) => {
    for (let t = begin; t < end; t++) ids[t] = BigInt.asIntN(32, given[t]) === given[t] ? Number(given[t]) : -1;
  });
  return ids;
}

export interface NumberRange {
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
  const isObject = typeof value === 'object' && value !== null;
  if (!isObject || ArrayBuffer.isView(value) || isRevoked(value) || Array.isArray(value)) {
    throw badArgument('ERR_DTYPE', name, 'an object', describe(value));
  }
  return value;
}

/** The options argument of a public function: absent or an object. */
export function optionsArgument<O extends object>(options: O | undefined): Partial<O> {
  return options === undefined ? {} : objectArgument('options', options);
}

/** Exactly one of the three that log-probs come from. */
export function oneSource(batch: { logits?: unknown; hidden?: unknown; logProbs?: unknown }): void {
  const { logits, hidden, logProbs } = batch;
  const given = Object.entries({ logits, hidden, logProbs }).filter(([, value]) => value !== undefined);
  if (given.length === 1) return;
  const expected = 'one of logits (with targets), hidden (with weight and targets) and logProbs';
  throw badArgument('ERR_DTYPE', 'batch', expected, given.map(([name]) => name).join(' and ') || 'none of them');
}
