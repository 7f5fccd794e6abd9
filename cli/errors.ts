import { constants } from 'node:os';
import { CommanderError } from 'commander';
import { RlvrError } from '../lib/index.js';

/** What the shell sees. */
export const exitCode = { ok: 0, failure: 1, usage: 2 } as const;

/** The caller asked for something that cannot be done: an unknown option, a bad value, a bad input file. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The reason given to the abort signal when the process is asked to stop. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(readonly signalName: 'SIGINT' | 'SIGTERM') {
    super(`interrupted by ${signalName}`);
  }
}

/** Codes of errors that came from the numbers or options handed over, not from the machine. */
const inputCodes: readonly string[] = ['ERR_SHAPE', 'ERR_DTYPE', 'ERR_RANGE', 'ERR_NONFINITE', 'ERR_OPTION'];

/** One line on stderr and an exit code; no stack trace, which tells a caller nothing about their input. */
export function report(error: unknown, signal: AbortSignal): number {
  if (signal.aborted && signal.reason instanceof Interrupted) {
    process.stderr.write(`${signal.reason.message}\n`);
    return 128 + constants.signals[signal.reason.signalName];
  }
  // Commander has printed its own message; help and version are not failures.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  const fromInput = error instanceof UsageError || (error instanceof RlvrError && inputCodes.includes(error.code));
  return fromInput ? exitCode.usage : exitCode.failure;
}
