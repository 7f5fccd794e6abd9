// The columns of a report's tables, in every form of it.
import {
  contenderName,
  formatComparison,
  formatError,
  formatInterval,
  formatNumber,
  formatRange,
  formatRate,
  formatShape,
  formatShare,
  formatShortRate,
  formatSpread,
  shortContenderName,
} from './figures.js';
import type { Comparison, Row } from './report.js';

export interface Column<Item> {
  readonly header: string;
  cell(item: Item): string;
  /** Aligned right. */
  readonly numeric?: boolean;
  /** May be long: breaks wherever it must, where all else stays on one line. */
  readonly text?: boolean;
}

export const shapeColumn: Column<Pick<Row, 'shape'>> = { header: 'shape', cell: ({ shape }) => formatShape(shape) };

const op: Column<Row> = { header: 'op', cell: (row) => row.op };
const by: Column<Row> = { header: 'by', cell: contenderName, text: true };
const dtype: Column<Row> = { header: 'dtype', cell: (row) => row.dtype };
const threads: Column<Row> = { header: 'threads', cell: (row) => `${row.threads ?? '–'}`, numeric: true };
const milliseconds: Column<Row> = {
  header: 'ms',
  cell: (row) => formatNumber(row.milliseconds.median),
  numeric: true,
};
const middle: Column<Row> = {
  header: 'p10 – p90',
  cell: ({ milliseconds: { p10, p90 } }) => formatRange(p10, p90),
  numeric: true,
};
const extremes: Column<Row> = {
  header: 'min – max',
  cell: ({ milliseconds: { min, max } }) => formatRange(min, max),
  numeric: true,
};
const rate: Column<Row> = { header: 'rows/s', cell: (row) => formatRate(row.rowsPerSecond), numeric: true };
const shortRate: Column<Row> = {
  header: 'rows/s',
  cell: (row) => formatShortRate(row.rowsPerSecond),
  numeric: true,
};
const bytes: Column<Row> = { header: 'GB/s', cell: (row) => formatNumber(row.gigabytesPerSecond), numeric: true };
const share: Column<Row> = { header: 'of memory', cell: (row) => formatShare(row.ofBandwidth), numeric: true };
const error: Column<Row> = { header: 'error', cell: (row) => formatError(row.error), numeric: true };

const flops: Column<Row> = {
  header: 'GFLOP/s',
  cell: ({ flops = Number.NaN, milliseconds: { median } }) => formatNumber(flops / median / 1e6),
  numeric: true,
};
const ofPeak: Column<Row> = { header: 'of peak', cell: ({ ofPeak = null }) => formatShare(ofPeak), numeric: true };
const peakMemory: Column<Row> = {
  header: 'MiB',
  cell: ({ peakBytes = Number.NaN }) => formatNumber(peakBytes / 2 ** 20),
  numeric: true,
};

/** What a row is compared with: the memory bandwidth, or arithmetic in registers. */
const limitsOf = (section: Row['section']) => (section === 'linear' ? [flops, ofPeak, peakMemory] : [bytes, share]);

/** Of docs/performance.md. */
export const rowColumns = (section: Row['section']): readonly Column<Row>[] => [
  ...[op, by, dtype, threads, milliseconds, middle, rate],
  ...limitsOf(section),
  error,
];

/** Of the HTML page, which scrolls. */
export const allRowColumns = (section: Row['section']): readonly Column<Row>[] => [
  ...[shapeColumn, op, by, dtype, threads, milliseconds, middle, extremes, rate],
  ...limitsOf(section),
  error,
];

/** For 100 characters: the terminal's, and Markdown's. */
export const narrowRowColumns = (section: Row['section']): readonly Column<Row>[] => [
  op,
  { header: 'by', cell: shortContenderName },
  dtype,
  milliseconds,
  { header: 'p10 p90', cell: (row) => formatSpread(row.milliseconds), numeric: true },
  ...(section === 'linear' ? [] : [shortRate]),
  ...limitsOf(section).map((column) => (column === share ? { ...share, header: 'of mem' } : column)),
  error,
];

const claim: Column<Comparison> = { header: 'claim', cell: (one) => one.claim, text: true };
const value: Column<Comparison> = { header: 'value', cell: formatComparison, numeric: true };
const between: Column<Comparison> = { header: 'between', cell: formatInterval, numeric: true };

export const comparisonColumns: readonly Column<Comparison>[] = [claim, shapeColumn, value, between];

/** Of the slowest shapes of a sweep, all of them ratios of speeds. */
export const sweepColumns: readonly Column<Comparison>[] = [claim, shapeColumn, { ...value, header: 'speed' }, between];
