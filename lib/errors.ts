/** What went wrong, for programs. Messages are for people and may change; codes do not. */
export type RlvrErrorCode =
  | 'ERR_SHAPE'
  | 'ERR_DTYPE'
  | 'ERR_RANGE'
  | 'ERR_NONFINITE'
  | 'ERR_OPTION'
  | 'ERR_BACKEND'
  | 'ERR_CUDA'
  | 'ERR_DISPOSED'
  | 'ERR_ABORTED';

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
    super(message, options);
    this.code = code;
  }
}

/** A short picture of a value for an error message. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 37)}...` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (ArrayBuffer.isView(value)) return `${tag(value)} of length ${(value as Uint8Array).length ?? value.byteLength}`;
  if (Array.isArray(value)) return `an Array of length ${value.length}`;
  return tag(value) === 'Object' ? `an object with keys ${Object.keys(value).join(', ') || '(none)'}` : tag(value);
}

/** The class name of a built-in, also for one from another realm. */
export function tag(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

/** The one message format: argument, expected, got. */
export function badArgument(code: RlvrErrorCode, argument: string, expected: string, got: string): RlvrError {
  return new RlvrError(code, `${argument}: expected ${expected}, got ${got}`);
}
