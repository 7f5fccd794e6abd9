#!/usr/bin/env node
import { Command } from 'commander';
import { packageVersion } from '../lib/version.js';
import { addBenchCommand } from './bench/command.js';
import { addDemoCommand } from './demo/command.js';
import { addInfoCommand } from './info.js';
import { addLossCommand } from './loss/command.js';
import { runProgram } from './run-program.js';
import { addVerifyCommand } from './verify/command.js';

const help = `
Exit codes: 0 done, 1 failed, 2 wrong usage (unknown option, bad value, bad file), 130 Ctrl-C.
Environment: RLVR_BACKEND forces a backend, RLVR_THREADS sets the threads of cpu and wasm.`;

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
  addVerifyCommand(program, signal);
  addBenchCommand(program, signal);
  return program;
}

await runProgram((signal) => createProgram(signal).parseAsync());
