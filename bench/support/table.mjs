// Figures as text, at most 100 columns wide.
import { shapeName } from './data.mjs';

/**
 * @typedef {import('./results.mjs').Row} Row
 * @typedef {import('./results.mjs').ShapeResult} ShapeResult
 */

const HEADER = ['by', 'op', 'dtype', 'ms', 'p10 p90', 'rows/s', 'GB/s', '% mem', 'error'];
const TEXT_COLUMNS = 3; // aligned left

/** @param {number} value */
const significant = (value) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));

/** The distance from the median. @param {number} ratio */
const percent = (ratio) => `${ratio < 1 ? '-' : '+'}${Math.abs(100 * (ratio - 1)).toFixed(0)}%`;

/** @param {Row} row */
function cells({ by, op, dtype, milliseconds, rowsPerSecond, gigabytesPerSecond, percentOfMemory, error }) {
  return [
    by,
    op,
    dtype,
    significant(milliseconds.median),
    `${percent(milliseconds.p10 / milliseconds.median)} ${percent(milliseconds.p90 / milliseconds.median)}`,
    rowsPerSecond.toFixed(0),
    gigabytesPerSecond.toFixed(gigabytesPerSecond < 10 ? 2 : 1),
    percentOfMemory.toFixed(0),
    error === null ? '' : error.toExponential(1),
  ];
}

/** @param {string[][]} lines */
function align(lines) {
  const widths = HEADER.map((_, c) => Math.max(...lines.map((line) => line[c].length)));
  const pad = (/** @type {string} */ cell, /** @type {number} */ c) =>
    c < TEXT_COLUMNS ? cell.padEnd(widths[c]) : cell.padStart(widths[c]);
  return lines.map((line) => line.map(pad).join('  ').trimEnd());
}

/** @param {ShapeResult} result */
export function renderShape({ shape, rows, comparisons }) {
  const [header, ...body] = align([HEADER, ...rows.map(cells)]);
  const rule = '-'.repeat(Math.max(...[header, ...body].map(({ length }) => length)));
  const claims = comparisons.map(({ claim, value, unit }) => {
    const figure = unit === 'percent' ? `${value.toFixed(0)} %` : `${value.toFixed(2)} x`;
    return `${figure.padStart(8)}  ${claim}`;
  });
  return [`T x V = ${shapeName(shape)}`, '', header, rule, ...body, '', ...claims, ''].join('\n');
}
