// The op tests against an addon built with AddressSanitizer and UBSan, under this Node with the runtime preloaded.
// A report ends the process that made it, and with it the run. Linux and gcc only.
//
//   node scripts/test-asan.mjs [vitest arguments]

import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const product = join(root, 'build-asan');

/** @param {string} name a library of the compiler, which knows where its own are */
function runtime(name) {
  return execFileSync(process.env.CXX ?? 'g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
}

/** @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function node(args, env) {
  const { status } = spawnSync(process.execPath, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (status !== 0) process.exit(status ?? 1);
}

node([
  'scripts/build-addon.mjs',
  ...['--sanitize', 'address,undefined', '--work', join(product, 'cmake'), '--product', product],
]);

const given = process.argv.slice(2);
// The command line and the packaging run other processes and other binaries: nothing of the addon that the ops miss.
const tests = given.length > 0 ? given : ['--exclude', 'test/cli/**', '--exclude', 'test/package/**'];
node(['node_modules/vitest/vitest.mjs', 'run', ...tests], {
  RLVR_ADDON: join(product, 'rlvr_kernels.node'),
  REQUIRE_BACKENDS: 'cpu',
  LD_PRELOAD: `${runtime('libasan.so')}:${runtime('libubsan.so')}`,
  // Node keeps memory until it exits, so leaks cannot be told from that; everything else stops at the first report.
  ASAN_OPTIONS:
    'detect_leaks=0:halt_on_error=1:abort_on_error=1:detect_stack_use_after_return=1:allocator_may_return_null=1',
  UBSAN_OPTIONS: 'halt_on_error=1:abort_on_error=1:print_stacktrace=1',
});
