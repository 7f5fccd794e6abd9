// Builds the addon with CMake, through cmake-js, and puts rlvr_kernels.node into the product folder.
//
//   node install/build-addon.mjs [--product DIR] [--work DIR] [--sanitize address,undefined] [--cuda MODE]
//                                [--ptx] [--arch ARCH] [--prebuilt] [--list-sources]
//
// MODE is RLVR_CUDA in CMakeLists.txt and defaults to the environment variable of that name; the environment variable
// CUDA_ARCHS chooses GPU architectures ('release': all). --ptx is RLVR_PTX there. For another machine's ARCH, Debian's
// cross compiler is used, without CUDA. --prebuilt is for the package: linked against an old glibc (Linux), and without the
// kernels for processors that lack AVX2, where the wasm backend serves. RLVR_BUILD_ARGS holds more
// arguments, as a JSON array: callers that go through binding.gyp have no other way to pass them. Objects stay in the
// work folder, for the next build; without --work in a package whose path is not plain (folders.mjs), the whole of it is
// built in a temporary one.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { specialCharacter, workFolder } from './folders.mjs';
import { cudaArchitectures, cudaMode, extraArguments } from './settings.mjs';
import { plainSources, sources } from './sources.mjs';
import { crossCompiler, onlyNamedCxx } from './toolchain.mjs';
import { buildTools } from './tools.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addon = 'rlvr_kernels.node';

const { values } = parseArgs({
  args: [...process.argv.slice(2), ...extraArguments()],
  options: {
    product: { type: 'string', default: join(root, 'build', 'Release') },
    work: { type: 'string' },
    sanitize: { type: 'string', default: '' },
    cuda: { type: 'string', default: cudaMode() },
    ptx: { type: 'boolean', default: false },
    arch: { type: 'string', default: process.arch },
    prebuilt: { type: 'boolean', default: false },
    'list-sources': { type: 'boolean', default: false },
  },
});

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
async function prebuiltArguments(work) {
  if (!values.prebuilt) return [];
  const { writeGlibcStubs } = await import('../scripts/prebuild-glibc.mjs');
  const cxx = values.arch === process.arch ? (onlyNamedCxx() ?? 'g++') : crossCompiler(values.arch).cxx;
  const folder = join(work, 'glibc');
  writeGlibcStubs({ folder, cxx, arch: values.arch });
  return ['--CDRLVR_PORTABLE=OFF', `--CDRLVR_GLIBC_STUBS=${folder}`];
}

/** @param {string} program @param {string[]} args @param {string} work */
function cmakeJs(program, args, work) {
  // make hands its job server down by descriptor, which does not survive the processes between here and cmake's make.
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...env } = process.env;
  const TMPDIR = join(work, 'tmp'); // the user's may not exist, and nvcc runs what is in its name
  mkdirSync(TMPDIR, { recursive: true });
  const { status, error } = spawnSync(process.execPath, [program, ...args], {
    cwd: work,
    env: { ...env, TMPDIR, TMP: TMPDIR, TEMP: TMPDIR },
    stdio: 'inherit',
  });
  if (error) throw error;
  return status ?? 1;
}

/** @param {string} work @returns {Promise<number>} the exit code */
async function build(work) {
  const product = resolve(values.product);
  const cuda = values.arch === process.arch ? values.cuda : 'OFF';
  const tools = buildTools();
  const { source, include } = plainSources(work, tools.headers);
  const args = ['--directory', source, '--out', work, '--parallel', String(availableParallelism())];
  args.push(`--CDRLVR_SANITIZE=${values.sanitize || 'OFF'}`, `--CDRLVR_CUDA=${cuda}`, ...include);
  args.push(`--CDRLVR_PTX=${values.ptx ? 'ON' : 'OFF'}`);
  const architectures = cudaArchitectures();
  if (architectures) args.push(`--CDCUDA_ARCHS=${architectures}`);
  args.push(...compilerArguments(), ...(await prebuiltArguments(work)));

  // cmake-js configures a folder only once: arguments that have changed since would be ignored.
  const known = join(work, 'arguments.json');
  const asked = JSON.stringify(args);
  const configured = existsSync(join(work, 'CMakeCache.txt'));
  const changed = configured && !(existsSync(known) && readFileSync(known, 'utf8') === asked);
  const run = (/** @type {string} */ command) => cmakeJs(tools.cmakeJs, [command, ...args], work);
  const status = (changed && run('configure')) || run('build');
  if (status !== 0) return status;
  writeFileSync(known, asked);

  // Renamed into place: a process that has the old file loaded keeps it.
  mkdirSync(product, { recursive: true });
  const built = join(work, 'Release', addon);
  const fresh = join(product, `${addon}.${process.pid}`);
  copyFileSync(built, fresh);
  renameSync(fresh, join(product, addon));
  return 0;
}

/** @returns {Promise<number>} the exit code */
async function buildSomewhere() {
  const kept = resolve(values.work ?? join(root, 'build', 'cmake'));
  const special = specialCharacter(kept);
  if (special === undefined) return build(kept);
  if (values.work) throw new Error(`--work: expected a folder without ${JSON.stringify(special)}, got ${kept}`);
  const temporary = workFolder(kept);
  try {
    return await build(temporary);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

if (values['list-sources']) console.log(sources().join(' '));
else process.exitCode = await buildSomewhere();
