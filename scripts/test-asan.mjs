// The op tests against an addon built with AddressSanitizer and UBSan, under this Node with the runtime preloaded.
// A report ends the process that made it, and with it the run. Linux and gcc only.
//
//   node scripts/test-asan.mjs [vitest arguments]
//   node scripts/test-asan.mjs --fuzz [arguments of npm run fuzz]
//   node scripts/test-asan.mjs --cuda-emulated [vitest arguments]
//   node scripts/test-asan.mjs --ptx [vitest arguments]
//
// The third form runs the CUDA kernels, compiled as C++ against native/emulation: first the emulation's own tests,
// then the tests of ops, losses and device tensors, twice: with the threads of a block in two orders, and with streams
// that do their work at once or only when somebody waits for it. Then, as the last form alone, some of them on the PTX
// that nvcc makes of the kernels, translated to C++ (test/native/ptx), where there is an nvcc. Some of the tests run
// dist: `npm run build:ts` first.

import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath } from '../install/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const given = process.argv.slice(2);
const onlyPtx = given[0] === '--ptx';
const emulated = onlyPtx || given[0] === '--cuda-emulated';
if (emulated) given.shift();
const hasNvcc = onPath('nvcc');
const product = join(root, emulated ? 'build-asan-cuda' : 'build-asan');

/** @param {string} name a library of the compiler, which knows where its own are */
function runtime(name) {
  return execFileSync(process.env.CXX ?? 'g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
}

/** @param {string} command @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function must(command, args, env) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function node(args, env) {
  must(process.execPath, args, env);
}

/** Runs Node on the addon under test. @param {string[]} args @param {NodeJS.ProcessEnv} env */
function sanitized(args, env) {
  node(args, {
    ...SANITIZERS,
    RLVR_ADDON: join(product, 'rlvr_kernels.node'),
    LD_PRELOAD: `${runtime('libasan.so')}:${runtime('libubsan.so')}`,
    ...env,
  });
}

/** @param {string[]} tests @param {NodeJS.ProcessEnv} env */
function runTests(tests, env) {
  sanitized(['node_modules/vitest/vitest.mjs', 'run', ...tests], env);
}

const SANITIZERS = {
  // Node keeps memory until it exits, and leaks cannot be told from that; everything else stops at the first report.
  ASAN_OPTIONS:
    'detect_leaks=0:halt_on_error=1:abort_on_error=1:detect_stack_use_after_return=1:allocator_may_return_null=1',
  UBSAN_OPTIONS: 'halt_on_error=1:abort_on_error=1:print_stacktrace=1',
};
/** The reference runs nothing in the addon. */
const CPU_ONLY = { TEST_BACKENDS: 'cpu', REQUIRE_BACKENDS: 'cpu' };
const CUDA_ONLY = { TEST_BACKENDS: 'cuda', REQUIRE_BACKENDS: 'cuda' };
/** What runs in the addon. */
const NATIVE_SUBJECTS = ['--subject', 'api', '--subject', 'addon'];
const build = ['install/build-addon.mjs', '--sanitize', 'address,undefined', '--product', product];

const OPS = [
  'token-log-probs',
  'sampling-replay',
  'device-replay',
  'sequence-log-probs',
  'ratio-scores',
  'group-info-nce',
  'advantage-objective',
];

/** @param {readonly string[]} names @returns {string[]} */
const testFiles = (names) => ['--project', 'default', ...names.map((name) => `test/${name}.test.ts`)];

function buildEmulated() {
  const native = join(product, 'native');
  const options = ['-DRLVR_SANITIZE=address,undefined', '-DRLVR_CUDA=EMULATED', '-DRLVR_NATIVE_TESTS=ON'];
  const tests = ['cuda_emulation_test', 'cuda_ptx_test'];
  must('cmake', ['-S', root, '-B', native, ...options]);
  must('cmake', ['--build', native, '--parallel', '2', '--target', ...tests]);
  for (const test of tests) must(join(native, 'test', 'native', test), []);
  node([...build, '--cuda', 'EMULATED', ...(hasNvcc ? ['--ptx'] : []), '--work', join(product, 'cmake')]);
}

function runEmulated() {
  const losses = [
    'conspo',
    'grpo',
    'disco',
    'define-loss',
    'custom-objective',
    'policy-extensions',
    'token-weights',
    'given-log-probs',
    'gradient-overlap',
    'many-sequences',
    'copy-inputs',
    'partial-batches',
  ];
  const others = [
    'degenerate-arguments',
    'degenerate-combinations',
    'empty-arrays',
    'overflow',
    'cuda-backend',
    'device-tensor',
    'device-contexts',
    'device-streams',
    'device-machines',
    'device-memory',
    'device-operations',
    'device-copies',
    'device-errors',
    'device-queue',
    'device-out-of-memory',
    'row-pieces',
  ];
  const slow = [
    'device-losses',
    'device-workers',
    'cli/bench-cuda',
    'linear-log-probs',
    'hidden-losses',
    'device-linear',
  ];
  // The ops run in both orders, and with them each kernel; what is built of them, in one.
  for (const [order, late, more] of /** @type {const} */ ([
    ['forward', '0', losses],
    ['reverse', '1', [...others, ...slow]],
  ])) {
    const emulation = { RLVR_EMULATION_ORDER: order, RLVR_EMULATION_ASYNC: late, RLVR_EMULATION_DEVICES: '2' };
    const env = { ...CUDA_ONLY, ...emulation };
    runTests(given.length > 0 ? given : testFiles([...OPS, 'one-pass', ...more]), env);
    // The whole file takes minutes under sanitizers; its golden cases run each named loss.
    if (given.length === 0) runTests([...testFiles(['policy-losses']), '-t', 'golden cases'], env);
  }
  // Ten thousand forgotten tensors, by the emulated allocator.
  const leaks = { ...CUDA_ONLY, RLVR_EMULATION_ASYNC: '1' };
  if (given.length === 0) runTests(['--project', 'alone', 'test/boundary/device-garbage.test.ts'], leaks);
}

/** The kernels as nvcc compiles them: the token level, and what else is quick. */
function runPtx() {
  if (!hasNvcc) {
    console.log("NOT RUN, for want of nvcc: tests on the kernels' PTX");
    return;
  }
  const env = { ...CUDA_ONLY, RLVR_EMULATION_PTX: '1', RLVR_EMULATION_ORDER: 'reverse' };
  const quick = [
    'token-log-probs',
    'device-replay',
    'row-pieces',
    'sequence-log-probs',
    'group-info-nce',
    'advantage-objective',
  ];
  runTests(given.length > 0 ? given : testFiles(quick), env);
  if (given.length === 0) runTests([...testFiles(['policy-losses']), '-t', 'golden cases'], env);
}

if (emulated) {
  buildEmulated();
  if (!onlyPtx) runEmulated();
  runPtx();
} else {
  node([...build, '--cuda', 'OFF', '--work', join(product, 'cmake')]);
  // The command line runs nothing in the addon that the ops do not; sanitizers change memory and time use.
  const boundary = ['abort', 'addon', 'arrays', 'determinism', 'taken-away', 'threads', 'workers'].map(
    (name) => `test/boundary/${name}.test.ts`,
  );
  const withoutAddon = [
    'check-sass',
    'commits',
    'docs-site',
    'fuzz',
    'imports',
    'layout',
    'performance-doc',
    'ptx',
    'readme-charts',
    'reliability-doc',
  ];
  const top = readdirSync(join(root, 'test')).filter((name) => name.endsWith('.test.ts'));
  const native = top.filter((name) => !withoutAddon.includes(name.replace('.test.ts', '')));
  const all = [...native.map((name) => `test/${name}`), ...boundary];
  if (given[0] === '--fuzz') sanitized(['dist/cli/dev/fuzz.js', ...NATIVE_SUBJECTS, ...given.slice(1)], {});
  else runTests(given.length > 0 ? given : all, CPU_ONLY);
}
