// An op or a loss is written once, as a task: a generator that validates, allocates, yields the kernels to run, and
// returns the result. Its async function and its ...Sync twin differ only in how they run what is yielded.
//
// An array that a kernel writes may still be on a device: it is Pending, and only `read` opens it. A task does not
// change an array that it gave to a kernel. Loops over arrays on the host pause (slices.ts): an async call then gives the
// event loop a turn.

import { checkProducts } from '../backend/cuda.js';
import { DeviceTensor } from '../cuda/device.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import type { Backend, BackendName, HostArray, KernelArguments, KernelCall, KernelName } from '../kernels.js';
import type { NamesOf, OptionNames } from '../options.js';
import { namesOf, takeSpelledOptions } from '../options.js';
import { PAUSE, pause } from '../slices.js';
import { optionsArgument } from '../validate.js';
import { cancelOn, isAbortSignal, release } from './abort.js';
import { onOwnMemory } from './own-memory.js';
import { selectBackend } from './select.js';
import { checkArrays, givenArrays } from './watch.js';

/** What ranks do together, in both forms; whoever began it sees it through, aborted or not. */
interface Joint<Result> {
  now(): Result;
  later(): Promise<Result>;
}

/** That, and what came of it once the step is taken. */
interface JointStep {
  joint: Joint<unknown>;
  result?: unknown;
}

type Step = KernelCall | { read: readonly HostArray[] } | JointStep | typeof PAUSE;

export type Task<Result> = Generator<Step, Result, void>;

/** What is done with the fields and options of a call, on a backend. */
type Op<F, O, Result> = (fields: F, options: O, backend: Backend) => Task<Result>;

declare const written: unique symbol;

/** An array that a kernel has yet to write. Other kernels take it as it is; its elements are there once it is read. */
export interface Pending<A extends HostArray> {
  readonly [written]: A;
  readonly length: number;
}

/** An array that may or may not be pending. Distributes over unions. */
export type MaybePending<A> = A | (A extends HostArray ? Pending<A> : never);

type AllPending<R> = { [K in keyof R]: R[K] extends infer A ? (A extends HostArray ? Pending<A> : A) : never };

type Opened<P> = P extends Pending<infer A> ? A : P extends readonly unknown[] ? { [I in keyof P]: Opened<P[I]> } : P;

/** The same arrays, read. */
export type OpenedAll<R> = { [K in keyof R]: Opened<R[K]> };

/** Marks arrays that a kernel was given to write as pending. */
export function pending<R extends object>(arrays: R): AllPending<R> {
  return arrays as AllPending<R>;
}

/** A kernel call, as a task yields it; the arrays that it reads may be pending. */
export function kernel<K extends KernelName>(
  name: K,
  args: { [A in keyof KernelArguments[K]]: MaybePending<KernelArguments[K][A]> },
): KernelCall {
  return { kernel: name, args } as unknown as KernelCall;
}

/** Waits for the kernels so far, and brings what they wrote into the arrays. Values that are no arrays are left alone. */
export function* read<const P extends readonly unknown[]>(...arrays: P): Task<{ [I in keyof P]: Opened<P[I]> }> {
  yield { read: hostArrays(arrays, []) };
  return arrays as { [I in keyof P]: Opened<P[I]> };
}

/** As {@link read}, by name; a value may be a list of arrays. */
export function* readAll<R extends object>(arrays: R): Task<OpenedAll<R>> {
  yield { read: hostArrays(Object.values(arrays), []) };
  return arrays as OpenedAll<R>;
}

/** What comes of what ranks do together. Each must take this step. */
export function* jointly<Result>(joint: Joint<Result>): Task<Result> {
  const step: JointStep = { joint };
  yield step;
  return step.result as Result;
}

/** Adds the host arrays among `values`, and those in nested lists. */
function hostArrays(values: readonly unknown[], into: HostArray[]): HostArray[] {
  for (const value of values) {
    if (ArrayBuffer.isView(value)) into.push(value as HostArray);
    else if (Array.isArray(value)) hostArrays(value, into);
  }
  return into;
}

/** Options of every op and loss. */
export interface BackendOptions {
  /**
   * Forces a backend. By default the data decides: logits in a `DeviceTensor` run on their device, host arrays on the
   * best of cpu, wasm and reference (or `RLVR_BACKEND`). `'cuda'` on host arrays copies them to the first device and back.
   */
  backend?: BackendName | undefined;
}

/** Options of the async functions. */
export interface AsyncOptions extends BackendOptions {
  /** Aborting rejects with `ERR_ABORTED`; arrays being written (a gradient in place) are then in an unspecified state. */
  signal?: AbortSignal | undefined;
  /**
   * Copy every input in host memory before the call returns its promise: whatever is done to the arrays after that (written
   * to, transferred, shrunk) does not matter. Costs the memory and, on the calling thread, the time of one copy of every
   * input. A gradient in place or in `out` is written there at the end. Default false: inputs must stay as they are until the promise is settled.
   */
  copyInputs?: boolean | undefined;
}

/** Names of the options that every blocking function has, and every asynchronous one. */
export const SYNC_OPTIONS = namesOf<BackendOptions>({ backend: true });
export const ASYNC_OPTIONS = namesOf<AsyncOptions>({ backend: true, signal: true, copyInputs: true });

/**
 * The options argument of an op (`async`) and of its blocking twin (`sync`), read: absent or an object, without misspelt names.
 * `own` are the names that not every function has.
 */
export function optionsOf<O extends BackendOptions>(of: string, own: NamesOf<Omit<O, keyof AsyncOptions>>) {
  const checked = (names: OptionNames) => (options: O | undefined) => {
    return takeSpelledOptions(of, optionsArgument(options), names) as Partial<O>;
  };
  return { sync: checked({ ...SYNC_OPTIONS, ...own }), async: checked({ ...ASYNC_OPTIONS, ...own }) };
}

/** Inputs that may be on a device. */
const ON_DEVICES = ['logits', 'hidden', 'weight', 'bias'];

function backendOf(fields: object, options: BackendOptions): Backend {
  const values = fields as Record<string, unknown>;
  const name = ON_DEVICES.find((field) => values[field] instanceof DeviceTensor) ?? 'logits';
  const backend = selectBackend(options.backend, values[name], name);
  if (values.hidden !== undefined && backend.name === 'cuda') checkProducts();
  return backend;
}

/** Runs an op on a call's own fields and options, on the backend for its logits, if it has any. */
export function runSync<F extends object, O extends BackendOptions, Result>(
  op: Op<F, O, Result>,
  fields: F,
  options: O,
): Result {
  const backend = backendOf(fields, options);
  const run = backend.start();
  const task = onOwnMemory((...own) => op(...own, backend), fields, options, false);
  let args: KernelCall['args'] | undefined; // of the last kernel
  try {
    for (;;) {
      const { done, value } = task.next();
      if (done === true) return value;
      if (value === PAUSE) continue;
      if ('kernel' in value) args = value.args;
      if ('read' in value) run.read(value.read);
      else if ('joint' in value) value.result = value.joint.now();
      else run.kernel(value);
    }
  } catch (error) {
    checkArrays([], args); // an objective of the caller's runs in between
    throw error;
  } finally {
    run.close();
  }
}

/**
 * As runSync, without blocking. On a device, everything up to the first read is enqueued before this returns, unless arrays on
 * the host are so long that checking them takes more than one turn of the event loop.
 */
export async function runAsync<F extends object, O extends AsyncOptions, Result>(
  op: Op<F, O, Result>,
  fields: F,
  options: O,
): Promise<Result> {
  const { signal, copyInputs = false } = options;
  const backend = backendOf(fields, options);
  if (signal !== undefined && !isAbortSignal(signal)) {
    throw badArgument('ERR_DTYPE', 'signal', 'an AbortSignal', describe(signal));
  }
  if (typeof copyInputs !== 'boolean') {
    throw badArgument('ERR_RANGE', 'copyInputs', 'true or false', describe(copyInputs));
  }
  throwIfAborted(signal);
  const task = onOwnMemory((...own) => op(...own, backend), fields, options, copyInputs);
  const given = copyInputs ? [] : givenArrays(fields, options);
  let args: KernelCall['args'] | undefined; // of the last kernel
  const cancel = cancelOn(signal);
  const run = backend.start();
  const start = (step: Exclude<Step, typeof PAUSE>) => {
    if ('read' in step) return run.readAsync(step.read, cancel);
    if ('joint' in step) return joined(step);
    args = step.args;
    return run.kernelAsync(step, cancel);
  };
  try {
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = task.next();
      if (done === true) return value;
      const pending = value === PAUSE ? pause() : start(value);
      if (!pending) continue;
      await pending;
      if (!signal?.aborted) checkArrays(given, args);
    }
  } catch (error) {
    if (!signal?.aborted) checkArrays(given, args); // rather than what came of it
    throw error;
  } finally {
    run.close();
    release(cancel, signal);
  }
}

async function joined(step: JointStep): Promise<void> {
  step.result = await step.joint.later();
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new RlvrError('ERR_ABORTED', 'the operation was aborted', { cause: signal.reason });
}
