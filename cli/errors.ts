import { constants } from 'node:os';
import { CommanderError } from 'commander';
import { printable } from '../bench/report/printable.js';
import { RlvrError } from '../lib/index.js';

/** What the shell sees. */
export const exitCode = { ok: 0, failure: 1, usage: 2 } as const;

/** The caller asked for something that cannot be done: an unknown option, a bad value, a bad input file. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** An error of the system, such as a file that is not there or a full device. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

/** A reader that has seen enough (`| head`) is no failure, and there is nobody left to tell. */
export function isClosedPipe(error: unknown): boolean {
  return isSystemError(error) && error.code === 'EPIPE';
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

/** A message may quote a file, which may hold anything. */
const longestMessage = 1000;

/** One line on stderr and an exit code; no stack trace, which tells a caller nothing about their input. */
export function report(error: unknown, signal: AbortSignal): number {
  if (signal.aborted && signal.reason instanceof Interrupted) {
    process.stderr.write(`${signal.reason.message}\n`);
    return 128 + constants.signals[signal.reason.signalName];
  }
  // Commander has printed its own message; help and version are not failures.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
  const message = (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, ' ');
  const shown = message.length <= longestMessage ? message : `${message.slice(0, longestMessage)}…`;
  process.stderr.write(`error: ${printable(shown)}\n`);
  const fromInput = error instanceof UsageError || (error instanceof RlvrError && inputCodes.includes(error.code));
  return fromInput ? exitCode.usage : exitCode.failure;
}
