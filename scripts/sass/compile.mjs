// Compiles a CUDA source to machine code, and reads what ptxas says of each kernel in it.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCubin } from './cubin.mjs';

/** @typedef {import('./cubin.mjs').Kernel} Kernel */
/** @typedef {{ stack: number, spills: number, registers: number, shared: number }} Resources all but registers in bytes */
/** @typedef {Kernel & Resources & { demangled: string }} Compiled */

/** Those of CMakeLists.txt that machine code depends on. */
export const FLAGS = ['-std=c++20', '-O3', '-Inative'];

/** @param {string} report of `ptxas -v` @returns {Map<string, Resources>} by mangled names */
export function readPtxasReport(report) {
  const pattern =
    /Compiling entry function '(\w+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads[\s\S]*?Used (\d+) registers(?:.*?(\d+) bytes smem)?/g;
  return new Map(
    [...report.matchAll(pattern)].map(([, name, ...numbers]) => {
      const [stack, stores, loads, registers, shared] = numbers.map((text) => Number(text ?? 0));
      return [name, { stack, spills: stores + loads, registers, shared }];
    }),
  );
}

/** @param {string[]} names @returns {string[]} */
function demangle(names) {
  return execFileSync('c++filt', { input: names.join('\n'), encoding: 'utf8' })
    .trimEnd()
    .split('\n');
}

/** @param {string} source @param {number} architecture @param {string} root the folder that both are relative to */
export function compile(source, architecture, root) {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-sass-'));
  try {
    const output = join(folder, 'kernels.cubin');
    const flags = [...FLAGS, '-Xptxas=-v', `-arch=sm_${architecture}`, '-cubin', source, '-o', output];
    const { status, stderr, error } = spawnSync('nvcc', flags, { cwd: root, encoding: 'utf8' });
    if (error) throw error;
    if (status !== 0) throw new Error(`nvcc failed for sm_${architecture}:\n${stderr}`);
    return describe(readCubin(readFileSync(output)), readPtxasReport(stderr));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @param {Kernel[]} kernels @param {Map<string, Resources>} report @returns {Compiled[]} */
function describe(kernels, report) {
  const demangled = demangle(kernels.map(({ name }) => name));
  return kernels.map((kernel, i) => {
    const resources = report.get(kernel.name);
    if (!resources) throw new Error(`ptxas says nothing of ${demangled[i]}`);
    return { ...kernel, ...resources, demangled: demangled[i] };
  });
}

/** '13.0.88' */
export function nvccVersion() {
  const text = execFileSync('nvcc', ['--version'], { encoding: 'utf8' });
  return /release [\d.]+, V([\d.]+)/.exec(text)?.[1] ?? 'unknown';
}
