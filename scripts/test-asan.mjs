// The op tests against an addon built with AddressSanitizer and UBSan, under this Node with the runtime preloaded.
// A report ends the process that made it, and with it the run. Linux and gcc only.
//
//   node scripts/test-asan.mjs [vitest arguments]
//   node scripts/test-asan.mjs --fuzz [arguments of npm run fuzz]
//   node scripts/test-asan.mjs --cuda-emulated [vitest arguments]
//   node scripts/test-asan.mjs --ptx [vitest arguments]
//
// One addon serves all of them: with the CUDA kernels compiled as C++ against native/emulation, which the first two forms
// leave without a device, and, where there is an nvcc, with the PTX that it makes of them, translated to C++
// (test/native/ptx). The third form runs the kernels: first the emulation's own tests, then the tests of ops, losses and
// device tensors, twice: with the threads of a block in two orders, and with streams that do their work at once or only
// when somebody waits for it. Then, as the last form alone, some of them on the PTX. Some of the tests run dist:
// `npm run build:ts` first.

import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath } from '../install/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const given = process.argv.slice(2);
const onlyPtx = given[0] === '--ptx';
const emulated = onlyPtx || given[0] === '--cuda-emulated';
if (emulated) given.shift();
const hasNvcc = onPath('nvcc');
const product = join(root, 'build-asan');

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
  // Node keeps memory until it exits, and leaks cannot be told from that; everything else stops at the first report. Node
  // allocates from ever new places: to keep 30 frames of each takes a fifth of a run.
  ASAN_OPTIONS: [
    'detect_leaks=0',
    'halt_on_error=1',
    'abort_on_error=1',
    'detect_stack_use_after_return=1',
    'allocator_may_return_null=1',
    'malloc_context_size=8',
  ].join(':'),
  UBSAN_OPTIONS: 'halt_on_error=1:abort_on_error=1:print_stacktrace=1',
};
const NO_DEVICE = { RLVR_EMULATION_DEVICES: '0' };
/** The reference runs nothing in the addon. */
const CPU_ONLY = { ...NO_DEVICE, TEST_BACKENDS: 'cpu', REQUIRE_BACKENDS: 'cpu' };
const CUDA_ONLY = { TEST_BACKENDS: 'cuda', REQUIRE_BACKENDS: 'cuda' };
/** What runs in the addon. */
const NATIVE_SUBJECTS = ['--subject', 'api', '--subject', 'addon'];
const OPS = [
  'token-log-probs',
  'sampling-replay',
  'device-replay',
  'device-sampling',
  'sequence-log-probs',
  'ratio-scores',
  'group-info-nce',
  'advantage-objective',
];

/** @param {readonly string[]} names @returns {string[]} */
const testFiles = (names) => ['--project', 'default', ...names.map((name) => `test/${name}.test.ts`)];

const work = join(product, 'cmake');

function build() {
  const sanitizers = ['--sanitize', 'address,undefined', '--cuda', 'EMULATED', ...(hasNvcc ? ['--ptx'] : [])];
  node(['install/build-addon.mjs', ...sanitizers, '--product', product, '--work', work]);
}

/** In the addon's folder, for the objects that they share. */
function testEmulation() {
  const tests = ['cuda_emulation_test', 'cuda_ptx_test'];
  must('cmake', ['-S', root, '-B', work, '-DRLVR_NATIVE_TESTS=ON']);
  must('cmake', ['--build', work, '--parallel', String(availableParallelism()), '--target', ...tests]);
  for (const test of tests) must(join(work, 'test', 'native', test), []);
}

/**
 * Each kernel runs in both orders, by the tests of ops; what is built of them, in one. Frames that a function has left are
 * watched once in each kernel and in the code around them: with them each thread of a block has hundreds of KiB that the
 * processor's caches do not hold, and a run takes three to five times as long.
 */
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
    'ranks-vocab',
  ];
  const devices = [
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
    'device-workers',
    'device-nccl',
    'device-nccl-losses',
  ];
  const others = [
    'degenerate-arguments',
    'degenerate-combinations',
    'empty-arrays',
    'overflow',
    'row-pieces',
    'device-losses',
    'cli/bench-cuda',
    'linear-log-probs',
    'hidden-losses',
    'device-linear',
  ];
  const golden = [...testFiles(['policy-losses']), '-t', 'golden cases']; // the whole file takes minutes
  const forward = { ...CUDA_ONLY, RLVR_EMULATION_DEVICES: '2', RLVR_EMULATION_ORDER: 'forward' };
  const reverse = { ...forward, RLVR_EMULATION_ORDER: 'reverse', RLVR_EMULATION_ASYNC: '1' };
  if (given.length > 0) {
    for (const env of [forward, reverse]) runTests(given, env);
    return;
  }
  const quick = { ASAN_OPTIONS: `${SANITIZERS.ASAN_OPTIONS}:detect_stack_use_after_return=0` };
  runTests(testFiles([...OPS, 'one-pass', 'linear-log-probs']), forward);
  runTests(golden, forward);
  runTests(testFiles(losses), { ...forward, ...quick });
  runTests(testFiles(devices), reverse);
  runTests(testFiles([...OPS, 'one-pass', ...others]), { ...reverse, ...quick });
  runTests(golden, { ...reverse, ...quick });
  // Ten thousand forgotten tensors, by the emulated allocator.
  const leaks = { ...CUDA_ONLY, RLVR_EMULATION_ASYNC: '1' };
  runTests(['--project', 'alone', 'test/boundary/device-garbage.test.ts'], leaks);
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

build();
if (emulated) {
  if (!onlyPtx) {
    testEmulation();
    runEmulated();
  }
  runPtx();
} else {
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
    'web',
  ];
  const top = readdirSync(join(root, 'test')).filter((name) => name.endsWith('.test.ts'));
  const native = top.filter((name) => !withoutAddon.includes(name.replace('.test.ts', '')));
  const all = [...native.map((name) => `test/${name}`), ...boundary];
  if (given[0] === '--fuzz') sanitized(['dist/cli/dev/fuzz.js', ...NATIVE_SUBJECTS, ...given.slice(1)], NO_DEVICE);
  else runTests(given.length > 0 ? given : all, CPU_ONLY);
}
