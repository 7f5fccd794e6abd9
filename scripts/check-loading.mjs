// Loads an installed package in every way that users do: import, require, a worker thread, two copies in one process,
// and TypeScript projects of each kind.
//
//   node scripts/check-loading.mjs PROJECT     a folder with node_modules/rlvr-kernels

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const project = process.argv[2];
if (!project) throw new Error('usage: node scripts/check-loading.mjs PROJECT');
const work = join(project, 'check-loading');
const types = fileURLToPath(new URL('../node_modules/@types', import.meta.url));

const BATCH = `{
  logProbs: Float64Array.of(-1, -2),
  cuSeqlens: Int32Array.of(0, 1, 2),
  cuGroups: Int32Array.of(0, 2),
  rewards: Float32Array.of(1, 0),
}`;
const CHECK = `if (!(conspoSync(${BATCH}).loss > 0)) throw new Error('no loss');`;

/** @type {Record<string, string>} programs by file name: each exits with 0 if it works */
const PROGRAMS = {
  'import.mjs': `import { conspoSync } from 'rlvr-kernels';
import { openDevice } from 'rlvr-kernels/cuda';
${CHECK}
if (typeof openDevice !== 'function') throw new Error('no openDevice');`,
  'require.cjs': `const { conspoSync, RlvrError } = require('rlvr-kernels');
const { openDevice, DeviceTensor } = require('rlvr-kernels/cuda');
${CHECK}
if (typeof openDevice !== 'function' || typeof DeviceTensor !== 'function') throw new Error('no cuda entry');
import('rlvr-kernels').then((same) => {
  if (same.RlvrError !== RlvrError) throw new Error('require and import gave two copies');
});`,
  'worker.mjs': `import { Worker } from 'node:worker_threads';
const code = \`import('rlvr-kernels').then(({ conspoSync }) => { ${CHECK} });\`;
for (let i = 0; i < 3; i++) {
  await new Promise((resolve, reject) => {
    new Worker(code, { eval: true }).on('error', reject).on('exit', (exit) => (exit === 0 ? resolve() : reject(exit)));
  });
}`,
  'two-copies.mjs': `import { backends, conspoSync, RlvrError } from 'rlvr-kernels';
import * as other from './other/node_modules/rlvr-kernels/dist/lib/index.js';
${CHECK}
if (other.RlvrError === RlvrError) throw new Error('one copy');
if (!(other.conspoSync(${BATCH}).loss > 0)) throw new Error('no loss from the other copy');
const present = (all) => all.filter(({ available }) => available).length;
if (present(other.backends()) !== present(backends())) throw new Error('the other copy found other backends');`,
};

const SOURCE = `import { conspo, conspoSync, type Metrics, RlvrError } from 'rlvr-kernels';
import { type DeviceTensor, openDevice } from 'rlvr-kernels/cuda';
const batch = ${BATCH};
const { loss, gradLogProbs, metrics } = conspoSync(batch, { tau: 0.2 });
const gradient: Float32Array | Float64Array = gradLogProbs;
export const seen: [number, Metrics, typeof gradient] = [loss, metrics, gradient];
export const device = (index: number): DeviceTensor => openDevice(index).empty([1, 2], 'bf16');
export const isOurs = (error: unknown): error is RlvrError => error instanceof RlvrError;
// @ts-expect-error an option that does not exist
conspo(batch, { tauu: 1 });
`;

/** @type {[file: string, module: ts.ModuleKind, resolution: ts.ModuleResolutionKind][]} */
const COMPILATIONS = [
  ['esm.mts', ts.ModuleKind.Node16, ts.ModuleResolutionKind.Node16],
  ['cjs.cts', ts.ModuleKind.Node16, ts.ModuleResolutionKind.Node16],
  ['esm.mts', ts.ModuleKind.NodeNext, ts.ModuleResolutionKind.NodeNext],
  ['cjs.cts', ts.ModuleKind.NodeNext, ts.ModuleResolutionKind.NodeNext],
  ['bundled.ts', ts.ModuleKind.ESNext, ts.ModuleResolutionKind.Bundler],
];

/** @param {string} file @param {ts.ModuleKind} module @param {ts.ModuleResolutionKind} moduleResolution */
function compile(file, module, moduleResolution) {
  const program = ts.createProgram([join(work, file)], {
    module,
    moduleResolution,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'],
    typeRoots: [types],
    strict: true,
    noEmit: true,
  });
  const problems = ts.getPreEmitDiagnostics(program);
  if (problems.length === 0) return;
  const host = { getCanonicalFileName: String, getCurrentDirectory: () => work, getNewLine: () => '\n' };
  throw new Error(ts.formatDiagnostics(problems, host));
}

rmSync(work, { recursive: true, force: true });
mkdirSync(work);
cpSync(join(project, 'node_modules'), join(work, 'other', 'node_modules'), { recursive: true });
for (const [name, text] of Object.entries(PROGRAMS)) {
  writeFileSync(join(work, name), text);
  const said = execFileSync(process.execPath, [name], { cwd: work, encoding: 'utf8' });
  if (said !== '') throw new Error(`${name} printed: ${said}`);
  console.log(`runs: ${name}`);
}
for (const [file, module, resolution] of COMPILATIONS) {
  writeFileSync(join(work, file), SOURCE);
  compile(file, module, resolution);
  console.log(`compiles: ${file} with moduleResolution ${ts.ModuleResolutionKind[resolution]}`);
}
