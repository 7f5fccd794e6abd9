// What changed between an earlier report and this one, row by row.
import type { Column } from '../../bench/report/columns.js';
import {
  formatNumber,
  formatRatio,
  formatShape,
  formatShare,
  formatShortShape,
  shortContenderName,
} from '../../bench/report/figures.js';
import { groupBy } from '../../bench/report/grouping.js';
import { printable } from '../../bench/report/printable.js';
import { InvalidReport, parseReport } from '../../bench/report/read-report.js';
import type { BenchReport, Row, Section } from '../../bench/report/report.js';
import { isSystemError, UsageError } from '../errors.js';
import { type Chunks, readText } from '../input-file.js';
import { renderColumns } from './table.js';

interface Change {
  readonly row: Row;
  readonly before: Row;
}

/** A report of every section has less than one. */
const MAX_BYTES = 2 ** 24;

/** Refuses what is not a report, and reports of another format, which would be misread. */
export async function readReport(chunks: Chunks, option: string, path: string): Promise<BenchReport> {
  try {
    return parseReport(await readText(chunks, MAX_BYTES));
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof InvalidReport || isSystemError(error))) throw error;
    throw new UsageError(`${option}: expected a file that bench --json wrote, got ${path} (${error.message})`);
  }
}

/** Two rows that measured the same. Threads tell rows apart only where they are what is measured. */
function keyOf({ section, op, by, backend, dtype, shape, threads }: Row): string {
  const { tokens, vocab, width, sequences, groupSize } = shape;
  const own = section === 'threads' || by === 'memory' ? threads : null;
  return JSON.stringify([section, op, by, backend, dtype, tokens, vocab, width, sequences, groupSize, own]);
}

/** By key; a yardstick is there once for each time it was measured, in order. */
function changesOf(report: BenchReport, previous: BenchReport): Change[] {
  const before = groupBy(previous.rows, keyOf);
  return report.rows.flatMap((row) => {
    const match = before.get(keyOf(row))?.shift();
    return match ? [{ row, before: match }] : [];
  });
}

/** Facts that make figures differ without the code having changed. */
function differences(report: BenchReport, previous: BenchReport): string[] {
  const facts = ({ machine, node, backends }: BenchReport): Record<string, unknown> => ({
    ...machine,
    node,
    threads: backends.find(({ name }) => name === 'cpu')?.threads,
    simd: backends.find(({ name }) => name === 'cpu')?.simd,
  });
  const [now, then] = [facts(report), facts(previous)];
  return Object.keys(now)
    .filter((key) => now[key] !== then[key])
    .map((key) => `${key} was ${then[key]}, now ${now[key]}`);
}

/** Of sections with a row per shape, only so many: those that changed for the worse. */
const MOST_LINES = 20;

const speedOf = ({ row, before }: Change) => before.milliseconds.median / row.milliseconds.median;

/** Whether the middle four fifths of the rounds of both overlap. */
function isNoise({ row: { milliseconds: now }, before: { milliseconds: then } }: Change): boolean {
  return now.p10 <= then.p90 && then.p10 <= now.p90;
}

const NOISE = '~';

const OP: Column<Change> = { header: 'op', cell: ({ row }) => row.op };
const SHAPE: Column<Change> = { header: 'shape', cell: ({ row }) => formatShortShape(row.shape) };
const CHANGE_COLUMNS: readonly Column<Change>[] = [
  { header: 'by', cell: ({ row }) => shortContenderName(row) },
  { header: 'dtype', cell: ({ row }) => row.dtype },
  { header: 'ms before', cell: ({ before }) => formatNumber(before.milliseconds.median), numeric: true },
  { header: 'ms now', cell: ({ row }) => formatNumber(row.milliseconds.median), numeric: true },
  {
    header: 'speed',
    cell: (change) => `${isNoise(change) ? NOISE : ''}${formatRatio(speedOf(change))}`,
    numeric: true,
  },
  { header: 'of memory', cell: ({ row, before }) => sharesOf(before, row), numeric: true },
];

function sharesOf(before: Row, now: Row): string {
  const [from, to] = [formatShare(before.ofBandwidth), formatShare(now.ofBandwidth)];
  return now.ofBandwidth === null ? to : `${from} → ${to}`;
}

/** A table for each shape; one for all of them where each shape has few rows. */
function renderSection(section: Section, changes: readonly Change[]): string {
  if (section === 'groups' || section === 'sweep') {
    const worst = [...changes].sort((a, b) => speedOf(a) - speedOf(b)).slice(0, MOST_LINES);
    return `${section}, smallest gain first\n\n${renderColumns([OP, SHAPE, ...CHANGE_COLUMNS], worst)}\n`;
  }
  const tables = [...groupBy(changes, ({ row }) => formatShape(row.shape))].map(([shape, ofShape]) => {
    return `${section}, ${shape}\n\n${renderColumns([OP, ...CHANGE_COLUMNS], ofShape)}\n`;
  });
  return tables.join('\n');
}

/** As text within 100 columns. */
export function renderChanges(report: BenchReport, previous: BenchReport): string {
  const changes = changesOf(report, previous);
  const differing = differences(report, previous);
  const commit = previous.git.commit === null ? '' : `, commit ${previous.git.commit.slice(0, 12)}`;
  const missing = report.rows.length - changes.length;
  const sections = [...new Set(changes.map(({ row }) => row.section))];
  const head = [
    `against ${previous.date}${commit}`,
    ...differing.map((difference) => `not the same machine or setting: ${difference}`),
    ...(changes.some(isNoise) ? [`${NOISE}: within the noise of the two runs`] : []),
    ...(missing > 0 ? [`${missing} of ${report.rows.length} rows have no counterpart there`] : []),
  ].map((line) => `${printable(line)}\n`);
  const tables = sections.map((section) =>
    renderSection(
      section,
      changes.filter(({ row }) => row.section === section),
    ),
  );
  return [head.join(''), ...tables].join('\n');
}
