// Builds the addon with CMake, through cmake-js, and puts rlvr_kernels.node into the product folder.
//
//   node install/build-addon.mjs [--product DIR] [--work DIR] [--sanitize address,undefined] [--cuda MODE]
//                                [--arch ARCH] [--portable] [--list-sources]
//
// MODE is RLVR_CUDA in CMakeLists.txt and defaults to the environment variable of that name; the environment variable
// CUDA_ARCHS chooses GPU architectures ('release': all). For another machine's ARCH, Debian's cross compiler is used,
// without CUDA. --portable links against an old glibc (Linux). RLVR_BUILD_ARGS holds more arguments, as a JSON array:
// callers that go through binding.gyp have no other way to pass them.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { crossCompiler, onlyNamedCxx } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addon = 'rlvr_kernels.node';

const { values } = parseArgs({
  args: [...process.argv.slice(2), ...JSON.parse(process.env.RLVR_BUILD_ARGS || '[]')],
  options: {
    product: { type: 'string', default: join(root, 'build', 'Release') },
    work: { type: 'string', default: join(root, 'build', 'cmake') },
    sanitize: { type: 'string', default: '' },
    cuda: { type: 'string', default: process.env.RLVR_CUDA || 'AUTO' },
    arch: { type: 'string', default: process.arch },
    portable: { type: 'boolean', default: false },
    'list-sources': { type: 'boolean', default: false },
  },
});

/** @returns {string[]} what the addon is built from, as paths from the package's root */
function sources() {
  return readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(h|cpp|cu)$/.test(name))
    .map((name) => `native/${name.replaceAll('\\', '/')}`);
}

/** cmake-js's arguments for the compiler. @returns {string[]} */
function compilerArguments() {
  if (values.arch === process.arch || process.platform !== 'linux') {
    const cxx = onlyNamedCxx();
    return cxx ? ['--cc', cxx, '--cxx', cxx] : [];
  }
  const { cc, cxx, processor } = crossCompiler(values.arch);
  const system = ['--CDCMAKE_SYSTEM_NAME=Linux', `--CDCMAKE_SYSTEM_PROCESSOR=${processor}`];
  return ['--arch', values.arch, '--cc', cc, '--cxx', cxx, ...system];
}

/** Writes stubs of an old glibc beside the build. @param {string} work @returns {Promise<string[]>} CMake arguments */
async function portableArguments(work) {
  if (!values.portable) return [];
  const { writeGlibcStubs } = await import('../scripts/prebuild-glibc.mjs');
  const cxx = values.arch === process.arch ? (onlyNamedCxx() ?? 'g++') : crossCompiler(values.arch).cxx;
  const folder = join(work, 'glibc');
  writeGlibcStubs({ folder, cxx, arch: values.arch });
  return [`--CDRLVR_GLIBC_STUBS=${folder}`];
}

/** @param {string} command @param {string[]} args */
function cmakeJs(command, args) {
  // make hands its job server down by descriptor, which does not survive the processes between here and cmake's make.
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...env } = process.env;
  const program = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
  const { status, error } = spawnSync(process.execPath, [program, command, ...args], {
    cwd: root,
    env,
    stdio: 'inherit',
  });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

async function build() {
  const work = resolve(values.work);
  const product = resolve(values.product);
  const cuda = values.arch === process.arch ? values.cuda : 'OFF';
  const args = ['--directory', root, '--out', work, '--parallel', String(availableParallelism())];
  args.push(`--CDRLVR_SANITIZE=${values.sanitize || 'OFF'}`, `--CDRLVR_CUDA=${cuda}`);
  if (process.env.CUDA_ARCHS) args.push(`--CDCUDA_ARCHS=${process.env.CUDA_ARCHS}`);
  args.push(...compilerArguments(), ...(await portableArguments(work)));

  // cmake-js configures a folder only once: arguments that have changed since would be ignored.
  const known = join(work, 'arguments.json');
  const asked = JSON.stringify(args);
  const configured = existsSync(join(work, 'CMakeCache.txt'));
  if (configured && !(existsSync(known) && readFileSync(known, 'utf8') === asked)) cmakeJs('configure', args);
  cmakeJs('build', args);
  writeFileSync(known, asked);

  // Renamed into place: a process that has the old file loaded keeps it.
  mkdirSync(product, { recursive: true });
  const built = join(work, 'Release', addon);
  const fresh = join(product, `${addon}.${process.pid}`);
  copyFileSync(built, fresh);
  renameSync(fresh, join(product, addon));
}

if (values['list-sources']) console.log(sources().join(' '));
else await build();
