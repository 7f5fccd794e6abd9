// The GPU's figures as text, at most 110 columns wide.

/**
 * @typedef {import('../../bench/cuda/losses.mjs').LossRow} LossRow
 * @typedef {import('./cuda-options.mjs').CudaShape} CudaShape
 * @typedef {import('./cuda-options.mjs').SmallShape} SmallShape
 * @typedef {import('../../bench/cuda/small-ops.mjs').SmallRow} SmallRow
 * @typedef {import('../../bench/cuda/token-level.mjs').CudaRow} CudaRow
 * @typedef {import('../../dist/bench/report/report.js').Spread} Spread
 */

/** @param {number} value */
const significant = (value) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(4));

/** @param {number | null} error */
const errorText = (error) => (error === null ? '' : error.toExponential(1));

/** The fastest and slowest tenth, as distances from the median. @param {Spread} spread */
function spreadText({ p10, median, p90 }) {
  const percent = (/** @type {number} */ ratio) => `${ratio < 1 ? '-' : '+'}${Math.abs(100 * (ratio - 1)).toFixed(1)}%`;
  return `${percent(p10 / median)} ${percent(p90 / median)}`;
}

/** @param {string[]} header @param {string[][]} body @param {number} textColumns aligned left */
function table(header, body, textColumns) {
  const lines = [header, ...body];
  const widths = header.map((_, c) => Math.max(...lines.map((line) => line[c].length)));
  const pad = (/** @type {string} */ cell, /** @type {number} */ c) =>
    c < textColumns ? cell.padEnd(widths[c]) : cell.padStart(widths[c]);
  const [first, ...rest] = lines.map((line) => line.map(pad).join('  ').trimEnd());
  const rule = '-'.repeat(Math.max(first.length, ...rest.map(({ length }) => length)));
  return [first, rule, ...rest].join('\n');
}

/** @param {CudaShape} shape */
export const cudaShapeName = ({ tokens, vocab, dtype }) => `${tokens}x${vocab}:${dtype}`;

/** @param {CudaRow[]} rows */
export function renderRows(rows) {
  const cells = rows.map(({ by, op, milliseconds, gigabytesPerSecond, percentOfCopy, error }) => [
    by,
    op,
    significant(milliseconds.median),
    spreadText(milliseconds),
    gigabytesPerSecond.toFixed(gigabytesPerSecond < 10 ? 2 : 0),
    percentOfCopy.toFixed(1),
    errorText(error),
  ]);
  return table(['by', 'op', 'ms', 'p10 p90', 'GB/s', '% copy', 'error'], cells, 2);
}

/** @param {LossRow[]} rows */
export function renderLosses(rows) {
  const cells = rows.map(({ op, sequences, groups, milliseconds, gigabytesPerSecond, error }) => [
    `${op}, N = ${sequences}, G = ${groups}`,
    significant(milliseconds.median),
    spreadText(milliseconds),
    gigabytesPerSecond.toFixed(gigabytesPerSecond < 10 ? 2 : 0),
    errorText(error),
  ]);
  return table(['loss with its gradient in place, wall time', 'ms', 'p10 p90', 'GB/s', 'error'], cells, 1);
}

/** @param {{ shape: SmallShape, rows: SmallRow[] }} result */
export function renderSmall({ shape: { sequences, tokens }, rows }) {
  const cells = rows.map(({ op, launched, graph, error }) => [
    op,
    significant(launched.median),
    spreadText(launched),
    significant(graph.median),
    spreadText(graph),
    errorText(error),
  ]);
  const header = [`N = ${sequences}, T = ${tokens}`, 'us launched', 'p10 p90', 'us in a graph', 'p10 p90', 'error'];
  return table(header, cells, 1);
}
