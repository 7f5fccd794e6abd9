// `npm run bench`: `rlvr-kernels bench` with what only a checkout has, other packages to compare with and a loss that a user
// wrote.
import { execFileSync } from 'node:child_process';
import { Command } from 'commander';
import { peersFolder } from '../../bench/peers/installed.js';
import { providers } from '../../bench/peers/peers.js';
import { addBenchCommand } from '../bench/command.js';
import { Interrupted, report } from '../errors.js';
import { pairwise } from './pairwise.js';

function installPeers(): void {
  execFileSync('npm', ['install'], {
    cwd: peersFolder,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' }, // its CUDA download
    stdio: ['ignore', 2, 2],
  });
}

const controller = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
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
