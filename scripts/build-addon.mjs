// Builds the addon with CMake, through cmake-js, and puts rlvr_kernels.node into the product folder.
//
//   node scripts/build-addon.mjs [--product DIR] [--work DIR] [--sanitize address,undefined] [--cuda MODE] [--list-sources]
//
// MODE is RLVR_CUDA of CMakeLists.txt; the environment variable CUDA_ARCHS chooses GPU architectures ('release': all).

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { onlyNamedCxx } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addon = 'rlvr_kernels.node';

const { values } = parseArgs({
  options: {
    product: { type: 'string', default: join(root, 'build', 'Release') },
    work: { type: 'string', default: join(root, 'build', 'cmake') },
    sanitize: { type: 'string', default: '' },
    cuda: { type: 'string', default: 'AUTO' },
    'list-sources': { type: 'boolean', default: false },
  },
});

/** @returns {string[]} what the addon is built from, as paths from the package's root */
function sources() {
  return readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(h|cpp|cu)$/.test(name))
    .map((name) => `native/${name.replaceAll('\\', '/')}`);
}

function build() {
  const work = resolve(values.work);
  const product = resolve(values.product);
  const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
  const args = ['build', '--directory', root, '--out', work, '--parallel', String(availableParallelism())];
  args.push(`--CDRLVR_SANITIZE=${values.sanitize || 'OFF'}`);
  args.push(`--CDRLVR_CUDA=${values.cuda}`);
  if (process.env.CUDA_ARCHS) args.push(`--CDCUDA_ARCHS=${process.env.CUDA_ARCHS}`);
  const cxx = onlyNamedCxx();
  if (cxx) args.push('--cc', cxx, '--cxx', cxx);

  // make hands its job server down by descriptor, which does not survive the processes between here and cmake's make.
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...env } = process.env;
  const { status, error } = spawnSync(process.execPath, [cmakeJs, ...args], { cwd: root, env, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);

  // Renamed into place: a process that has the old file loaded keeps it.
  mkdirSync(product, { recursive: true });
  const built = join(work, 'Release', addon);
  const fresh = join(product, `${addon}.${process.pid}`);
  copyFileSync(built, fresh);
  renameSync(fresh, join(product, addon));
}

if (values['list-sources']) console.log(sources().join(' '));
else build();
