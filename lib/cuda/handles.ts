// Handles of another library's CUDA objects, as bigints.
import { badArgument, describe } from '../errors.js';

const PER_THREAD = 2n; // cudaStreamPerThread

/** Checks a `cudaStream_t`, if there is one. */
export function streamHandle(stream: unknown): void {
  if (stream === undefined) return;
  if (!isHandle(stream)) throw badArgument('ERR_RANGE', 'stream', 'a cudaStream_t as a bigint', describe(stream));
  if (stream !== PER_THREAD) return;
  const got = '2n (cudaStreamPerThread), which is another stream on each of the threads that work is done on';
  throw badArgument('ERR_RANGE', 'stream', 'a cudaStream_t that is one stream', got);
}

/** Checks a `cudaEvent_t`. */
export function eventHandle(event: bigint): bigint {
  if (isHandle(event) && event > 0n) return event;
  throw badArgument('ERR_RANGE', 'event', 'a cudaEvent_t as a bigint', describe(event));
}

/** A 64-bit address or a handle below the first address. */
function isHandle(value: unknown): value is bigint {
  return typeof value === 'bigint' && value >= 0n && value < 2n ** 64n;
}
