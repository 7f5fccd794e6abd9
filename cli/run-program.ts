import { exitCode, Interrupted, isClosedPipe, report } from './errors.js';

/** What is written is lost, so there is no use in going on; progress that nobody reads is no reason to stop. */
function endOnLostOutput(): void {
  process.stdout.on('error', (error) => {
    if (isClosedPipe(error)) process.exit(exitCode.ok);
    process.stderr.write(`error: standard output could not be written (${error.message})\n`);
    process.exit(exitCode.failure);
  });
  process.stderr.on('error', () => {});
}

/** The first Ctrl-C stops the work in order, which removes temporary files; a second one ends the process at once. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new Interrupted(name)));
  }
  return controller.signal;
}

/** Everything a command line does around its commands: signals, lost output, errors and the exit code. */
export async function runProgram(run: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  endOnLostOutput();
  const signal = abortOnSignals();
  try {
    await run(signal);
  } catch (error) {
    process.exitCode = report(error, signal);
    if (signal.aborted) process.exit(); // without waiting for what nothing aborts, such as a peer's process
  }
}
