// An op or a loss is written once, as a task: a generator that validates, allocates, yields the kernels to run, and
// returns the result. Its async function and its ...Sync twin differ only in how they run what is yielded.
//
// What a kernel wrote may still be on a device: a task reads an array only after `yield* read(...)`, and does not change
// an array that it gave to a kernel.
import { badArgument, describe, RlvrError, tag } from '../errors.js';
import type { BackendName, HostArray, KernelCall, LogitsData } from '../kernels.js';
import { optionsArgument } from '../validate.js';
import { selectBackend } from './select.js';

type Step = KernelCall | { read: readonly HostArray[] };

export type Task<Result> = Generator<Step, Result, void>;

/** Makes the arrays hold what the kernels so far wrote to them, and waits for those kernels. */
export function* read(...arrays: readonly (LogitsData | HostArray | undefined)[]): Task<void> {
  yield { read: arrays.filter((array): array is HostArray => ArrayBuffer.isView(array)) };
}

/** Options of every op and loss. */
export interface BackendOptions {
  /**
   * Forces a backend. By default the data picks: logits in a `DeviceTensor` run on their device, host arrays on the best
   * of cpu and reference (or `RLVR_BACKEND`). `'cuda'` on host arrays copies them to the first device and back.
   */
  backend?: BackendName;
}

/** Options of the async functions. */
export interface AsyncOptions extends BackendOptions {
  /** Aborting rejects with `ERR_ABORTED`; arrays being written (a gradient in place) are then in an unspecified state. */
  signal?: AbortSignal;
}

/** Runs a task on the backend for `logits`, if it has any. */
export function runSync<Result>(task: Task<Result>, options?: BackendOptions, logits?: unknown): Result {
  const run = selectBackend(optionsArgument(options).backend, logits).start();
  try {
    for (;;) {
      const { done, value } = task.next();
      if (done === true) return value;
      if ('read' in value) run.read(value.read);
      else run.kernel(value);
    }
  } finally {
    run.close();
  }
}

/** As runSync, without blocking. On a device, everything up to the first read is enqueued before this returns. */
export async function runAsync<Result>(task: Task<Result>, options?: AsyncOptions, logits?: unknown): Promise<Result> {
  const { backend: wanted, signal } = optionsArgument(options);
  const backend = selectBackend(wanted, logits);
  if (signal !== undefined && tag(signal) !== 'AbortSignal') {
    throw badArgument('ERR_DTYPE', 'signal', 'an AbortSignal', describe(signal));
  }
  const cancel = new Int32Array(1); // polled by the kernels
  const onAbort = () => {
    cancel[0] = 1;
  };
  signal?.addEventListener('abort', onAbort);
  const run = backend.start();
  try {
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = task.next();
      if (done === true) return value;
      const pending = 'read' in value ? run.readAsync(value.read) : run.kernelAsync(value, cancel);
      if (pending) await pending;
    }
  } finally {
    run.close();
    signal?.removeEventListener('abort', onAbort);
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new RlvrError('ERR_ABORTED', 'the operation was aborted', { cause: signal.reason });
}
