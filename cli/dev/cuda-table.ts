// The GPU's figures as text, at most 110 columns wide.

import type { CudaLossRow } from '../../bench/cuda/losses.js';
import type { ShapeResult } from '../../bench/cuda/run.js';
import type { CudaShape } from '../../bench/cuda/settings.js';
import type { SmallResult } from '../../bench/cuda/small-ops.js';
import type { CudaRow } from '../../bench/cuda/token-level.js';
import type { PeerShape } from '../../bench/cuda/torch.js';
import type { Spread } from '../../bench/report/report.js';

const significant = (value: number) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(4));

const errorText = (error: number | null) => (error === null ? '' : error.toExponential(1));

/** The fastest and slowest tenth, as distances from the median. */
function spreadText({ p10, median, p90 }: Spread): string {
  const percent = (ratio: number) => `${ratio < 1 ? '-' : '+'}${Math.abs(100 * (ratio - 1)).toFixed(1)}%`;
  return `${percent(p10 / median)} ${percent(p90 / median)}`;
}

function table(header: readonly string[], body: readonly (readonly string[])[], textColumns: number): string {
  const lines = [header, ...body];
  const widths = header.map((_, c) => Math.max(...lines.map((line) => line[c].length)));
  const pad = (cell: string, c: number) => (c < textColumns ? cell.padEnd(widths[c]) : cell.padStart(widths[c]));
  const [first, ...rest] = lines.map((line) => line.map(pad).join('  ').trimEnd());
  const rule = '-'.repeat(Math.max(first.length, ...rest.map(({ length }) => length)));
  return [first, rule, ...rest].join('\n');
}

export const cudaShapeName = ({ tokens, vocab, dtype }: CudaShape) => `${tokens}x${vocab}:${dtype}`;

function renderRows(rows: readonly CudaRow[]): string {
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

function renderLosses(rows: readonly CudaLossRow[]): string {
  const cells = rows.map(({ op, sequences, groups, milliseconds, gigabytesPerSecond, error }) => [
    `${op}, N = ${sequences}, G = ${groups}`,
    significant(milliseconds.median),
    spreadText(milliseconds),
    gigabytesPerSecond.toFixed(gigabytesPerSecond < 10 ? 2 : 0),
    errorText(error),
  ]);
  return table(['loss with its gradient in place, wall time', 'ms', 'p10 p90', 'GB/s', 'error'], cells, 1);
}

export function renderSmall({ shape: { sequences, tokens }, rows }: SmallResult): string {
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

export function renderShape({ shape, rows, forwardAndBackward, losses }: ShapeResult): string {
  const { milliseconds, gigabytesPerSecond } = forwardAndBackward;
  const both = `${milliseconds.toPrecision(4)} ms, ${gigabytesPerSecond.toFixed(0)} GB/s`;
  return [
    `T x V = ${cudaShapeName(shape)}\n\n${renderRows(rows)}`,
    `forward + backward in place, added up: ${both}\n\n${renderLosses(losses)}`,
  ].join('\n');
}

export function renderPeers({ shape, rows, skipped }: PeerShape): string {
  const table = rows.length > 0 ? renderRows(rows) : 'none';
  const reasons = skipped.map(({ op, reason }) => `not run: ${op}: ${reason}`);
  return [`Peers, T x V = ${cudaShapeName(shape)}\n\n${table}`, ...reasons].join('\n');
}
