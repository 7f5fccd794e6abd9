// `npm run bench`: `rlvr-kernels bench` with what only a checkout has, other packages to compare with and a loss that a user
// wrote.
import { execFileSync } from 'node:child_process';
import { Command } from 'commander';
import { peersFolder } from '../../bench/peers/installed.js';
import { providers } from '../../bench/peers/peers.js';
import { addBenchCommand } from '../bench/command.js';
import { runProgram } from '../run-program.js';
import { pairwise } from './pairwise.js';

function installPeers(): void {
  execFileSync('npm', ['install'], {
    cwd: peersFolder,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' }, // its CUDA download
    stdio: ['ignore', 2, 2],
  });
}

await runProgram(async (signal) => {
  const program = new Command('npm run').exitOverride().showHelpAfterError('(--help shows the usage)');
  addBenchCommand(program, signal, {
    peers: providers,
    losses: { "a user's: pairwise": pairwise },
    installPeers,
  });
  await program.parseAsync(['bench', ...process.argv.slice(2)], { from: 'user' });
});
