// Figures as text in the terminal, at most 100 columns wide.

import type { BenchReport, Comparison, Row, Shape } from '../../bench/report/report.js';
import { sweepLines } from '../../bench/report/sweep.js';
import { comparisonText, intervalText, machineText, rowCells } from '../../bench/report/text.js';
import type { Finding } from '../../bench/run.js';
import { type Column, renderTable } from '../table.js';

const WIDTH = 100;
const left = (header: string): Column => ({ header, align: 'left' });
const right = (header: string): Column => ({ header, align: 'right' });

const COLUMNS: readonly Column[] = [
  left('op'),
  left('by'),
  left('dtype'),
  right('ms'),
  right('p10 p90'),
  right('rows/s'),
  right('GB/s'),
  right('% mem'),
  right('error'),
];

export function renderFinding({ title, rows, comparisons }: Finding): string {
  const section = rows.find(({ by }) => by !== 'memory')?.section;
  if (section === 'sweep') return `${title}\n\n${renderSweep(comparisons)}`;
  const label = section === 'groups' ? ({ shape }: Row) => shortShape(shape) : undefined;
  const table = renderTable(
    COLUMNS,
    rows.map((row) => rowCells(row, label?.(row))),
  );
  const claims = comparisons.map((one) => `${comparisonText(one).padStart(9)}  ${one.claim}\n`).join('');
  return `${title}\n\n${table}\n${claims === '' ? '' : `\n${claims}`}`;
}

/** Of sections with a row per shape, in few characters. */
export function shortShape({ tokens, vocab, sequences, groupSize }: Shape): string {
  return vocab === undefined ? `N ${sequences}, groups ${groupSize}` : `${tokens} x ${vocab}`;
}

function renderSweep(comparisons: readonly Comparison[]): string {
  const { counts, slowest } = sweepLines(comparisons);
  const lines = slowest.map((one) => [
    comparisonText(one),
    intervalText(one),
    one.claim.replace(/ \w+, \w+ against \w+$/, ''),
    shortShape(one.shape),
  ]);
  const columns = [right('speed'), left('between'), left('op'), left('shape')];
  return `${renderTable(columns, lines)}\n\n${counts}; slowest first\n`;
}

/** The last lines: where this was, wrapped. */
export function renderMachine(report: BenchReport): string {
  const lines: string[] = [];
  for (const part of machineText(report).split('; ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + part.length + 2 <= WIDTH) lines[lines.length - 1] = `${last}; ${part}`;
    else lines.push(part);
  }
  return `${lines.join('\n')}\n`;
}
