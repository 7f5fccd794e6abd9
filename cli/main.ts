#!/usr/bin/env node
import { Command } from 'commander';
import { packageVersion } from '../lib/version.js';
import { addBenchCommand } from './bench/command.js';
import { addDemoCommand } from './demo/command.js';
import { exitCode, Interrupted, isClosedPipe, report } from './errors.js';
import { addInfoCommand } from './info.js';
import { addLossCommand } from './loss/command.js';
import { addVerifyCommand } from './verify/command.js';

const help = `
Exit codes: 0 done, 1 failed, 2 wrong usage (unknown option, bad value, bad input file).
Environment: RLVR_BACKEND forces a backend, RLVR_THREADS sets the cpu backend's threads.`;

function createProgram(signal: AbortSignal): Command {
  // Settings first: commands inherit those that are made before they are added.
  const program = new Command('rlvr-kernels')
    .description('Losses of reinforcement learning with verifiable rewards, and their gradients.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .showHelpAfterError('(--help shows the usage)')
    .exitOverride()
    .addHelpText('after', help);
  addInfoCommand(program);
  addDemoCommand(program, signal);
  addLossCommand(program, signal);
  addVerifyCommand(program);
  addBenchCommand(program, signal);
  return program;
}

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

async function main(): Promise<void> {
  endOnLostOutput();
  const signal = abortOnSignals();
  try {
    await createProgram(signal).parseAsync();
  } catch (error) {
    process.exitCode = report(error, signal);
  }
}

await main();
