import { badArgument, describe } from '../errors.js';
import { arrayOf } from '../validate.js';
import { loadedAddon } from './native.js';
import type { BackendOptions } from './task.js';

const LARGE = 4096; // elements; smaller arrays live in V8's own heap, which is faster still
const HUGE = 2 ** 25; // bytes; allocators ask the system for more than this anew each time, less they may have at hand
const LONGEST = 2 ** 31; // bytes of one view: there can be no Uint8Array of many more

/** Float64 for a kernel that writes every element: without the zeros that it would only overwrite. */
export function outputArray(length: number): Float64Array {
  if (length < LARGE) return new Float64Array(length);
  return preparedForWriting(new Float64Array(Buffer.allocUnsafeSlow(length * Float64Array.BYTES_PER_ELEMENT).buffer));
}

/** The array itself, new, in memory that the system hands out in large pages: small ones take longer than the kernels. */
export function preparedForWriting<A extends ArrayBufferView>(array: A): A {
  const addon = array.byteLength > HUGE ? loadedAddon() : undefined;
  for (let begin = 0; addon && begin < array.byteLength; begin += LONGEST) {
    const bytes = Math.min(array.byteLength - begin, LONGEST);
    addon.preferHugePages({ memory: new Uint8Array(array.buffer, array.byteOffset + begin, bytes), bytes });
  }
  return array;
}

/** An array of yours for a gradient of log-probs. @inline */
export interface GradientInto {
  /** [T] */
  out: Float64Array;
}

/** Options of {@link sequenceLogProbsBackward} and {@link ratioScoresBackward}. */
export interface LogProbGradientOptions extends BackendOptions {
  /** Default `'new'`; `{ out }` writes to your [T] array, apart from the inputs: a loop need not allocate one each time. */
  gradient?: 'new' | GradientInto;
}

/** The [T] array for a gradient of log-probs, apart from what the kernel reads. */
export function gradientArray(
  option: LogProbGradientOptions['gradient'],
  tokens: number,
  read: Record<string, ArrayBufferView | undefined>,
): Float64Array {
  if (option === undefined || option === 'new') return outputArray(tokens);
  if (typeof option !== 'object' || option === null || !('out' in option)) {
    throw badArgument('ERR_RANGE', 'gradient', "'new' or { out }", describe(option));
  }
  const out = arrayOf('gradient.out', option.out, ['Float64Array'], tokens, 'T, one value per token');
  for (const [name, array] of Object.entries(read)) {
    if (array && overlap(out, array)) {
      throw badArgument('ERR_RANGE', 'gradient.out', 'memory apart from the inputs', `an overlap with ${name}`);
    }
  }
  return out;
}

/** Whether two views share memory. */
export function overlap(a: ArrayBufferView, b: ArrayBufferView): boolean {
  return (
    a.buffer === b.buffer && a.byteOffset < b.byteOffset + b.byteLength && b.byteOffset < a.byteOffset + a.byteLength
  );
}
