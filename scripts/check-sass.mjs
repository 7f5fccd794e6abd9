// Counts the machine instructions of the CUDA kernels that read or write logits, without a GPU, and fails above the budget
// (scripts/sass/kernels.mjs). It compiles them for each architecture and looks at the hot loop of each: of its innermost
// loops the one with the most exponentials (MUFU.EX2), which are one per element. Without nvcc there is nothing to check.
//
//   node scripts/check-sass.mjs [--json FILE]     writes the figures too
//
// bench/results/sass.json, from which docs/performance.md has its section on GPUs, must be what this gives with the same nvcc.
//
// Counted are all instructions of the loop. Divergence (BSSY, BSYNC) and float64 are allowed only in its rare parts, where a
// running reference is moved: the largest sets of blocks that an iteration may skip, that are entered through one block
// and hold no exponential, and one of these at most for each 64 bytes that a thread reads. A pair of BSSY and BSYNC may be
// around each. Local memory, stack and spills: none at all.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { onPath } from '../install/toolchain.mjs';
import { compile, nvccVersion } from './sass/compile.mjs';
import { ARCHITECTURES, KERNELS } from './sass/kernels.mjs';
import { bytesInFlight, excesses, measure, perElement, spills } from './sass/measure.mjs';
import { isOutdated, writeResult } from './sass/result.mjs';

/** @typedef {import('./sass/measure.mjs').Row} Row */

const root = fileURLToPath(new URL('..', import.meta.url));
const RESULT = 'bench/results/sass.json';

/** @param {Row} row */
const columns = (row) => ({
  'regs/thread': row.registers,
  'shared B': row.shared,
  'blocks/SM': row.residentBlocks,
  'KiB in flight/SM': bytesInFlight(row) / 1024,
  'instr./element': Number(perElement(row).toFixed(2)),
  'without rare': Number(((row.instructions - row.rare) / row.elements).toFixed(2)),
  limit: row.limit,
});

/** @returns {{ rows: Row[], failures: string[] }} */
function check() {
  /** @type {Row[]} */
  const rows = [];
  const failures = [];
  for (const architecture of ARCHITECTURES.keys()) {
    for (const source of new Set(KERNELS.map((one) => one.source))) {
      const kernels = compile(source, architecture, root);
      const measured = measure(kernels, source, architecture);
      rows.push(...measured);
      failures.push(...kernels.flatMap((kernel) => spills(kernel, architecture)), ...measured.flatMap(excesses));
      console.log(`sm_${architecture}, ${source}`);
      console.table(Object.fromEntries(measured.map((row) => [`${row.pass} ${row.dtype}`, columns(row)])));
    }
  }
  return { rows, failures };
}

const { values } = parseArgs({ options: { json: { type: 'string' } } });
if (onPath('nvcc')) {
  const { rows, failures } = check();
  const nvcc = nvccVersion();
  if (values.json) await writeResult(values.json, nvcc, rows);
  if (isOutdated(join(root, RESULT), nvcc, rows))
    failures.push(`${RESULT} has other figures: npm run check:sass -- --json ${RESULT}, npm run docs:performance`);
  for (const failure of failures) console.log(`FAIL  ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
} else {
  console.log('not run: no nvcc on PATH');
}
