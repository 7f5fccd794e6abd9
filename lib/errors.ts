import { elementsOf, typedArrayType } from './views.js';

/** What went wrong, for programs. Messages are for people and may change; codes do not. */
export type RlvrErrorCode =
  | 'ERR_SHAPE'
  | 'ERR_DTYPE'
  | 'ERR_RANGE'
  | 'ERR_NONFINITE'
  | 'ERR_OPTION'
  | 'ERR_BACKEND'
  | 'ERR_CUDA'
  | 'ERR_RANK'
  | 'ERR_DISPOSED'
  | 'ERR_ABORTED'
  | 'ERR_RANK';

/**
 * Every error that this package throws on purpose. Its message names the argument, what was expected and what was given.
 *
 * @example
 * ```ts
 * import { RlvrError, tokenLogProbsSync } from 'rlvr-kernels';
 *
 * try {
 *   tokenLogProbsSync({ logits: new Float32Array(6), targets: Int32Array.of(0, 7) });
 * } catch (error) {
 *   if (!(error instanceof RlvrError)) throw error;
 *   console.log(error.code, error.message); // => ERR_RANGE targets: expected ids in [0, 3), got 7 at index 1
 * }
 * ```
 */
export class RlvrError extends Error {
  /** `'RlvrError'`. */
  override readonly name = 'RlvrError';
  /** What went wrong, for programs. */
  readonly code: RlvrErrorCode;

  constructor(code: RlvrErrorCode, message: string, options?: ErrorOptions) {
    super(printable(message), options);
    this.code = code;
  }
}

/** A short picture of any value for an error message. Never throws, whatever the value does when it is looked at. */
export function describe(value: unknown): string {
  if (isRevoked(value)) return 'a revoked Proxy';
  try {
    return shortened(picture(value), 120);
  } catch {
    return 'an object that cannot be read'; // its accessors or traps throw
  }
}

function picture(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(shortened(value, 40));
  if (typeof value === 'bigint') return BigInt.asIntN(128, value) === value ? `${value}n` : 'a bigint of over 128 bits';
  if (typeof value === 'function') return shortened(Function.prototype.toString.call(value), 60);
  if (typeof value !== 'object' || value === null) return String(value);
  if (ArrayBuffer.isView(value)) return `${tag(value)} of length ${viewLength(value)}`;
  if (Array.isArray(value)) return `an Array of length ${value.length}`;
  return tag(value) === 'Object' ? `an object with keys ${listed(Object.keys(value)) || '(none)'}` : tag(value);
}

function viewLength(view: ArrayBufferView): number {
  return typedArrayType(view) === undefined ? view.byteLength : elementsOf(view);
}

/** The first of a list of names. */
export function listed(names: readonly string[]): string {
  const most = 40;
  const first = names.slice(0, most).map((name) => shortened(name, 40));
  return names.length > most ? `${first.join(', ')} and ${names.length - most} more` : first.join(', ');
}

/** A text of at most `length` characters. */
export function shortened(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 3)}...` : text;
}

/** The class name of a built-in, also for one from another realm; a view cannot pretend to be another. Never throws. */
export function tag(value: unknown): string {
  try {
    if (ArrayBuffer.isView(value)) return typedArrayType(value) ?? 'DataView';
    return Object.prototype.toString.call(value).slice(8, -1);
  } catch {
    return 'Object';
  }
}

/** Whether a value is a Proxy that was revoked: every look at one throws a TypeError. */
export function isRevoked(value: unknown): boolean {
  try {
    Array.isArray(value); // looks through a Proxy at its target, and at nothing else
    return false;
  } catch {
    return true;
  }
}

/** As `Array.isArray`, false for a revoked Proxy. */
export function isArray(value: unknown): value is readonly unknown[] {
  return !isRevoked(value) && Array.isArray(value);
}

/** The first items of an array, `most` at most, by index: nothing is asked of its prototype. */
export function itemsOf(array: readonly unknown[], most: number): unknown[] {
  return Array.from({ length: Math.min(array.length, most) }, (_, i) => array[i]);
}

const LONGEST_MESSAGE = 500; // characters

/** A text on one line that ends: without control characters or what would reorder it. */
function printable(text: string): string {
  const escaped = shortened(text, LONGEST_MESSAGE).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)!.toString(16)}}`;
  });
  return shortened(escaped, LONGEST_MESSAGE);
}

/** The one message format: argument, expected, got. */
export function badArgument(code: RlvrErrorCode, argument: string, expected: string, got: string): RlvrError {
  return new RlvrError(code, `${argument}: expected ${expected}, got ${got}`);
}
