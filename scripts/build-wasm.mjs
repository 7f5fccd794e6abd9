// Builds the WebAssembly modules of the wasm backend: native/wasm and the CPU kernels, into prebuilds/wasm/, compressed with Brotli, which
// Node undoes: the package is to stay small.
//
//   npm run build:wasm                   needs Debian's clang-16, lld-16 and their libraries for WebAssembly
//   npm run build:wasm -- --if-possible  where there are none, says so and goes on
//
// rlvr_kernels.relaxed.wasm is the same with the operations of relaxed SIMD, which not every engine has. One thread, no exceptions, and
// nothing imported but the memory. What does the most work is compiled for speed, the rest for size: each module is to stay under
// 250 KB. An inlining limit, too, is for the size; the loops do not depend on it.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';
import { onPath } from '../install/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const work = join(root, 'build-wasm');
const out = join(root, 'prebuilds', 'wasm');
const CXX = 'clang++-16';
const PACKAGES = 'clang-16 lld-16 wasi-libc libc++-16-dev-wasm32 libc++abi-16-dev-wasm32 libclang-rt-16-dev-wasm32';

const KERNELS = [
  'token_log_probs',
  'linear_log_probs_passes',
  'products',
  'replay',
  'sample_tokens',
  'sampled_cut',
  'ratio_scores',
  'ratio_scores_portable',
  'sequence_log_probs',
  'group_info_nce',
  'advantage_objective',
];
const ROWS = 'native/cpu/rows_wasm.cpp';
const LIMIT = 250_000; // bytes

/** @returns {string | undefined} where libc++ for WebAssembly has its headers */
function libraryHeaders() {
  const resources = execFileSync(CXX, ['-print-resource-dir'], { encoding: 'utf8' }).trim();
  const headers = resolve(resources, '../../../include/wasm32-wasi/c++/v1');
  return existsSync(headers) ? headers : undefined;
}

/** @returns {string | undefined} what is missing */
function missing() {
  if (!onPath(CXX)) return CXX;
  if (!onPath('wasm-ld-16')) return 'wasm-ld-16';
  return libraryHeaders() ? undefined : 'libc++ for WebAssembly';
}

/** @returns {number} when anything that goes into the modules was last changed */
function changed() {
  const folders = ['native/wasm', 'native/cpu', 'native/cpu/simd', 'native/ops'].map((folder) => join(root, folder));
  const files = folders.flatMap((folder) => [folder, ...readdirSync(folder).map((name) => join(folder, name))]);
  files.push(fileURLToPath(import.meta.url), join(root, 'package.json'));
  return Math.max(...files.map((file) => statSync(file).mtimeMs));
}

/** @returns {string[]} */
function flags() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return [
    ...['--target=wasm32-wasi', '-std=c++20', '-msimd128', '-mbulk-memory', '-fvisibility=hidden', '-DNDEBUG'],
    ...['-fno-exceptions', '-fno-rtti', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=off'],
    ...[
      '-Wall',
      '-Wextra',
      '-Werror',
      '-Wno-unknown-pragmas',
      `-DRLVR_VERSION="${version}"`,
      `-I${join(root, 'native')}`,
    ],
    ...['-nostdinc++', '-isystem', String(libraryHeaders())],
  ];
}

/** @param {string} source @param {string} object @param {string[]} options @returns {string} the object's path */
function compile(source, object, options) {
  const path = join(work, object);
  execFileSync(CXX, [...flags(), ...options, '-c', join(root, source), '-o', path], { stdio: 'inherit' });
  return path;
}

/** @param {string} name @param {string[]} objects */
function link(name, objects) {
  const file = join(work, name);
  const options = '--import-memory,--max-memory=4294967296,--no-entry,--gc-sections,--strip-all,-z,stack-size=131072';
  const args = ['--target=wasm32-wasi', '-mexec-model=reactor', '-nostartfiles', `-Wl,${options}`];
  execFileSync(CXX, [...args, ...objects, '-o', file], { stdio: 'inherit' });
  const bytes = readFileSync(file);
  if (bytes.length > LIMIT) throw new Error(`${name} is ${bytes.length} bytes, ${LIMIT} at most`);
  const packed = brotliCompressSync(bytes);
  writeFileSync(join(out, `${name}.br`), packed);
  const [size, packedSize] = [bytes, packed].map(({ length }) => `${(length / 1000).toFixed(1)} KB`);
  console.log(`prebuilds/wasm/${name}.br: ${packedSize}, unpacked ${size}`);
}

const lacking = missing();
if (lacking) {
  console.log(`no WebAssembly: ${lacking} not found (on Debian: apt-get install ${PACKAGES})`);
  process.exit(process.argv.includes('--if-possible') ? 0 : 1);
}

const names = ['rlvr_kernels.wasm', 'rlvr_kernels.relaxed.wasm'];
const made = names.map((name) => join(out, `${name}.br`));
const since = changed();
if (made.every((file) => existsSync(file) && statSync(file).mtimeMs > since)) {
  console.log('prebuilds/wasm is up to date');
  process.exit();
}
rmSync(work, { recursive: true, force: true });
for (const folder of [work, out]) mkdirSync(folder, { recursive: true });
const sources = readdirSync(join(root, 'native/wasm')).filter((name) => name.endsWith('.cpp'));
const objects = [
  ...sources.map((name) => compile(`native/wasm/${name}`, `wasm_${name}.o`, ['-Oz'])),
  ...KERNELS.map((name) => compile(`native/cpu/${name}.cpp`, `${name}.o`, ['-Oz'])),
];
const fast = ['-O2', '-mllvm', '-inline-threshold=10'];
link(names[0], [...objects, compile(ROWS, 'rows.o', fast)]);
link(names[1], [...objects, compile(ROWS, 'rows_relaxed.o', [...fast, '-mrelaxed-simd'])]);
