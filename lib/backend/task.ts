// An op or a loss is written once, as a task: a generator that validates, allocates, yields the kernels to run, and
// returns the result. Its async function and its ...Sync twin differ only in how they run what is yielded.
import { badArgument, describe, RlvrError, tag } from '../errors.js';
import { objectArgument } from '../validate.js';
import type { KernelCall } from './kernels.js';
import { type BackendName, selectBackend } from './select.js';

export type Task<Result> = Generator<KernelCall, Result, void>;

/** Options of every op and loss. */
export interface BackendOptions {
  /** Forces a backend; by default the best one that loaded (or `RLVR_BACKEND`). */
  backend?: BackendName;
}

/** Options of the async functions. */
export interface AsyncOptions extends BackendOptions {
  /** Aborting rejects with `ERR_ABORTED`; arrays being written (a gradient in place) are then in an unspecified state. */
  signal?: AbortSignal;
}

export function runSync<Result>(task: Task<Result>, options?: BackendOptions): Result {
  const backend = selectBackend(optionsArgument(options).backend);
  for (;;) {
    const step = task.next();
    if (step.done === true) return step.value;
    backend.run(step.value);
  }
}

export async function runAsync<Result>(task: Task<Result>, options?: AsyncOptions): Promise<Result> {
  const { backend: wanted, signal } = optionsArgument(options);
  const backend = selectBackend(wanted);
  if (signal !== undefined && tag(signal) !== 'AbortSignal') {
    throw badArgument('ERR_DTYPE', 'signal', 'an AbortSignal', describe(signal));
  }
  const cancel = new Int32Array(1); // polled by the kernels
  const onAbort = () => {
    cancel[0] = 1;
  };
  signal?.addEventListener('abort', onAbort);
  try {
    for (;;) {
      throwIfAborted(signal);
      const step = task.next();
      if (step.done === true) return step.value;
      await backend.runAsync(step.value, cancel);
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new RlvrError('ERR_ABORTED', 'the operation was aborted', { cause: signal.reason });
}

/** The options argument of a public function: absent or an object. */
export function optionsArgument<O extends object>(options: O | undefined): Partial<O> {
  return options === undefined ? {} : objectArgument('options', options);
}
