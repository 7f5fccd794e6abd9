// Aborting of calls. Many may share a signal, which warns of a leak from the eleventh listener on: it gets one.
import { badArgument, tag } from '../errors.js';
import type { Cancel } from '../kernels.js';

const running = new WeakMap<EventTarget, Set<Cancel>>();

function onAbort({ currentTarget }: Event): void {
  for (const cancel of running.get(currentTarget!) ?? []) {
    cancel.flag[0] = 1;
    cancel.waiting?.();
  }
}

/** Whether a value is a signal, of this realm or another. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  if (tag(value) !== 'AbortSignal') return false;
  const { addEventListener, removeEventListener } = value as Partial<AbortSignal>;
  return typeof addEventListener === 'function' && typeof removeEventListener === 'function';
}

/**
 * Has `signal` cancel a call, until {@link release}.
 *
 * @throws RlvrError `ERR_DTYPE` if it is frozen and the platform keeps listeners in the object itself, as Node 24 does.
 */
export function cancelOn(signal: AbortSignal | undefined): Cancel {
  const cancel: Cancel = { flag: new Int32Array(1) };
  if (!signal) return cancel;
  try {
    signal.addEventListener('abort', onAbort); // no second time for the same function
  } catch (error) {
    if (!Object.isFrozen(signal)) throw error;
    throw badArgument('ERR_DTYPE', 'signal', 'an AbortSignal that can be listened to', 'a frozen one');
  }
  const calls = running.get(signal) ?? new Set();
  running.set(signal, calls.add(cancel));
  return cancel;
}

/** Ends that: a signal that no running call has is not listened to. */
export function release(cancel: Cancel, signal: AbortSignal | undefined): void {
  const calls = signal && running.get(signal);
  if (!calls) return;
  calls.delete(cancel);
  if (calls.size > 0) return;
  running.delete(signal);
  signal.removeEventListener('abort', onAbort);
}
