// Compiles the token-level CUDA kernels for the oldest and the main architecture and reads what ptxas says of each: a
// kernel that spills registers or keeps a stack in local memory fails. Without nvcc there is nothing to check.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath } from '../install/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const KERNELS = 'native/cuda/token_log_probs.cu';
const ARCHITECTURES = ['sm_80', 'sm_90'];
const EXPECTED = 10; // forward with and without entropy, and backward, for each of three element types; and one over rows

/** @param {string} architecture @param {string} folder */
function ptxasReport(architecture, folder) {
  const output = join(folder, `${architecture}.o`);
  const flags = ['-std=c++20', '-O3', '-Xptxas=-v', `-arch=${architecture}`, '-Inative', '-c', KERNELS, '-o', output];
  const { status, stderr, error } = spawnSync('nvcc', flags, { cwd: root, encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`nvcc failed for ${architecture}:\n${stderr}`);
  return stderr;
}

/** @param {string} report */
function kernelsOf(report) {
  const pattern =
    /Compiling entry function '(\w+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads[\s\S]*?Used (\d+) registers/g;
  return [...report.matchAll(pattern)].map(([, name, ...numbers]) => {
    const [stack, stores, loads, registers] = numbers.map(Number);
    return { name, stack, spills: stores + loads, registers };
  });
}

/** @param {string} folder */
function check(folder) {
  for (const architecture of ARCHITECTURES) {
    const kernels = kernelsOf(ptxasReport(architecture, folder));
    if (kernels.length !== EXPECTED)
      throw new Error(`${architecture}: expected ${EXPECTED} kernels, got ${kernels.length}`);
    for (const { name, stack, spills, registers } of kernels) {
      const ok = stack === 0 && spills === 0;
      console.log(
        `${ok ? 'pass' : 'FAIL'}  ${architecture}  ${registers} registers, stack ${stack}, spills ${spills}  ${name}`,
      );
      if (!ok) process.exitCode = 1;
    }
  }
}

if (onPath('nvcc')) {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-ptxas-'));
  try {
    check(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  console.log('not run: no nvcc on PATH');
}
