// `rlvr-kernels bench` with what only the repository has: other packages to compare with, and a loss that a user wrote.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { providers } from '../../bench/peers/peers.mjs';
import { addBenchCommand } from '../../dist/cli/bench/command.js';
import { Interrupted, report } from '../../dist/cli/errors.js';
import { pairwise } from './pairwise.mjs';

function installPeers() {
  execFileSync('npm', ['install'], {
    cwd: fileURLToPath(new URL('../../bench/peers', import.meta.url)),
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' }, // its CUDA download
    stdio: ['ignore', 2, 2],
  });
}

const controller = new AbortController();
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(name, () => controller.abort(new Interrupted(name)));
}

try {
  const program = new Command('npm run').exitOverride().showHelpAfterError('(--help shows the usage)');
  addBenchCommand(program, controller.signal, {
    peers: providers,
    losses: { "a user's: pairwise": pairwise },
    installPeers,
  });
  await program.parseAsync(['bench', ...process.argv.slice(2)], { from: 'user' });
} catch (error) {
  process.exitCode = report(error, controller.signal);
}
