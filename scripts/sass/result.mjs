// What check-sass.mjs writes for docs/performance.md, and whether what it wrote before still holds.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/** @typedef {import('./measure.mjs').Row} Row */

/** @param {string} file @param {string} nvcc its version @param {Row[]} rows */
export async function writeResult(file, nvcc, rows) {
  const { describeCommit } = await import('../../dist/bench/machine.js');
  const date = new Date().toISOString();
  /** @type {import('../../bench/report/sass-result.js').SassResult} */
  const result = { measurement: 'rlvr-kernels check:sass', date, git: describeCommit(), nvcc, rows };
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
}

/** Whether a file that the same compiler gave has other rows. @param {string} file @param {string} nvcc @param {Row[]} rows */
export function isOutdated(file, nvcc, rows) {
  if (!existsSync(file)) return false;
  const before = JSON.parse(readFileSync(file, 'utf8'));
  return before.nvcc === nvcc && JSON.stringify(before.rows) !== JSON.stringify(rows);
}
