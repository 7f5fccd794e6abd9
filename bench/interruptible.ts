// Ctrl-C while the event loop has no turn. Making data and checking results takes seconds in which no handler hears of it.
import { type Context, createContext, Script } from 'node:vm';

/** Node stops a script on SIGINT; this one calls what it is given. */
let caller: { readonly script: Script; readonly context: Context } | undefined;

/** Work on fewer elements takes milliseconds. */
const FEW = 2 ** 17;

/**
 * Does `work` on so many elements, and returns what that returns. SIGINT ends it where it is, without a catch or finally of
 * its own, and is then given to the process's handlers, one of which aborts the signal. A kernel of the addon still runs to
 * its end. What is short is simply done: Node takes a tenth of a millisecond to exchange the handlers, in which SIGINT would
 * end the process without a word.
 */
export function interruptible<T>(work: () => T, elements: number, signal: AbortSignal | undefined): T {
  if (elements < FEW) return work();
  caller ??= { script: new Script('work()'), context: createContext({}) };
  const { script, context } = caller;
  context.work = work;
  try {
    return script.runInContext(context, { breakOnSigint: true, displayErrors: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_INTERRUPTED') throw error;
    process.emit('SIGINT', 'SIGINT');
    signal?.throwIfAborted();
    throw error;
  } finally {
    context.work = undefined;
  }
}
