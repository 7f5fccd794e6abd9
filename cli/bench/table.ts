// Figures as text in the terminal, at most 100 columns wide.

import { type Column, narrowRowColumns } from '../../bench/report/columns.js';
import { formatComparison, formatInterval, formatShortShape, machineLine } from '../../bench/report/figures.js';
import type { BenchReport, Comparison } from '../../bench/report/report.js';
import { sweepLines } from '../../bench/report/sweep.js';
import type { Finding } from '../../bench/run.js';
import { renderTable } from '../table.js';

const WIDTH = 100;

/** In the place of the op, where a section has a row for each shape. */
export const shortShapeColumn: Column<Pick<Comparison, 'shape'>> = {
  header: 'shape',
  cell: ({ shape }) => formatShortShape(shape),
};

export function renderColumns<Item>(
  columns: readonly Column<Item>[],
  items: readonly Item[],
  maxWidth?: number,
): string {
  return renderTable(
    columns.map(({ header, numeric }) => ({ header, align: numeric ? 'right' : 'left', maxWidth })),
    items.map((item) => columns.map(({ cell }) => cell(item))),
  );
}

export function renderFinding({ title, rows, comparisons }: Finding): string {
  const section = rows.find(({ by }) => by !== 'memory')?.section ?? 'memory';
  if (section === 'sweep') return `${title}\n\n${renderSweep(comparisons)}`;
  const all = narrowRowColumns(section);
  const columns = section === 'groups' ? [shortShapeColumn, ...all.slice(1)] : all;
  const claims = comparisons.map((one) => `${formatComparison(one).padStart(9)}  ${one.claim}\n`).join('');
  return `${title}\n\n${renderColumns(columns, rows)}\n${claims === '' ? '' : `\n${claims}`}`;
}

const SWEEP_COLUMNS: readonly Column<Comparison>[] = [
  { header: 'speed', cell: formatComparison, numeric: true },
  { header: 'between', cell: formatInterval },
  { header: 'op', cell: ({ claim }) => claim.replace(/ \w+, \w+ against \w+$/, '') },
  shortShapeColumn,
];

function renderSweep(comparisons: readonly Comparison[]): string {
  const { counts, slowest } = sweepLines(comparisons);
  return `${renderColumns(SWEEP_COLUMNS, slowest)}\n\n${counts}; slowest first\n`;
}

/** The last lines: where this was, wrapped. */
export function renderMachine(report: BenchReport): string {
  const lines: string[] = [];
  for (const part of machineLine(report)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + part.length + 2 <= WIDTH) lines[lines.length - 1] = `${last}; ${part}`;
    else lines.push(part);
  }
  return `${lines.join('\n')}\n`;
}
