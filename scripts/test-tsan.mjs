// The C++ tests of test/native (no Node in them) built with ThreadSanitizer, and run.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const work = join(root, 'build-tsan');

/** @param {string} command @param {string[]} args */
function must(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** @param {string} program */
function runTest(program) {
  const env = { ...process.env, TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1' };
  /** @type {import('node:child_process').SpawnSyncOptionsWithStringEncoding} */
  const options = { env, encoding: 'utf8', stdio: ['ignore', 'inherit', 'pipe'] };
  const first = spawnSync(program, [], options);
  // gcc's runtime cannot place its shadow where the kernel randomises addresses by more bits than it was written for.
  const misplaced = first.stderr.includes('unexpected memory mapping');
  const { status, stderr } = misplaced ? spawnSync('setarch', ['-R', program], options) : first;
  process.stderr.write(stderr ?? '');
  return status === 0;
}

must('cmake', '-S', root, '-B', work, '-DRLVR_SANITIZE=thread', '-DRLVR_NATIVE_TESTS=ON', '-DRLVR_CUDA=OFF');
must('cmake', '--build', work, '--parallel', String(availableParallelism()));

const programs = readdirSync(join(root, 'test', 'native')).filter((name) => /^(?!cuda_).*_test\.cpp$/.test(name));
if (programs.length === 0) throw new Error('test/native holds no *_test.cpp: nothing would be tested');
for (const source of programs) {
  const name = source.replace(/\.cpp$/, '');
  const passed = runTest(join(work, 'test', 'native', name));
  console.log(`${passed ? 'pass' : 'FAIL'}  ${name} (ThreadSanitizer)`);
  if (!passed) process.exitCode = 1;
}
