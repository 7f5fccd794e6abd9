// docs/performance.md from a result of `rlvr-kernels bench --json`: every number in it comes from that result, and those
// on GPUs from one of `npm run check:sass`.
import { type Column, comparisonColumns, rowColumns, shapeColumn, sweepColumns } from './columns.js';
import { contenderName, formatRatio, formatShape, formatShare, machineFacts } from './figures.js';
import { groupBy, sectionTitles } from './grouping.js';
import { escapeMarkdown, markdownCode, markdownTable } from './markdown-table.js';
import { predictedSection } from './predicted.js';
import type { BenchReport, Row } from './report.js';
import type { SassResult } from './sass-result.js';
import { sweepLines } from './sweep.js';

/** From this share of the memory bandwidth on, the memory is said to be a row's limit. */
const AT_MEMORY = 0.7;
/** Half the bytes, and less than this many times the rows per second: the time did not follow the bytes. */
const FOLLOWS_BYTES = 1.5; // halfway from no gain to that of half the bytes
/** A section with more shapes than this has them in a column, not as headings. */
const HEADINGS = 6;

/** Counts of machine instructions, and where they are, from the root. */
export interface Counts {
  readonly result: SassResult;
  readonly file: string;
}

/** The whole document. `file`: where the result is, from the root. */
export function performanceDocument(report: BenchReport, file: string, counts?: Counts): string {
  return [
    `<!-- Generated from ${file} by cli/dev/write-performance.ts (npm run docs:performance). Do not edit. -->`,
    '# Performance',
    `Generated from \`${file}\` in the repository by \`npm run docs:performance\`. These are the figures of one run on one machine: compare ratios within it, not figures with those of another machine.`,
    ...method(report),
    ...machine(report),
    ...limits(report.rows),
    ...comparisons(report),
    '## Results',
    ...results(report.rows.filter(({ section }) => section !== 'sweep')),
    ...sweep(report),
    ...(counts === undefined ? [] : predictedSection(counts.result, counts.file)),
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}

function method({ settings: { command, repeats, warmup, seed, quiet }, peers }: BenchReport): string[] {
  const ran = peers.filter(({ reason }) => reason === undefined);
  const missing = peers.filter(({ reason }) => reason !== undefined);
  const names = ran.map(({ name, version }) => escapeMarkdown([name, version].filter(Boolean).join(' ')));
  return [
    '## Method',
    `${markdownCode(command)}: each contender's result is checked against float64, then ${repeats} rounds (after ${warmup} to warm up) time every contender once, in turn, on the same data (seed ${seed}).` +
      `${quiet ? ' Rounds in which other processes were at work were thrown away and repeated.' : ''} Details are in [bench/README.md](../bench/README.md).`,
    "`ms` is the median, `p10 – p90` leaves out the fastest and the slowest tenth. GB/s counts the bytes that the task must move; `of memory` is the time that reading and copying those bytes took in the same rounds, over the row's. `error` is relative, against float64.",
    ...(names.length > 0 ? [`Peers: ${names.join(', ')}.`] : []),
    ...missing.map(({ name, reason }) => `Not run: ${escapeMarkdown(name)} (${escapeMarkdown(reason ?? '')}).`),
  ];
}

function machine(report: BenchReport): string[] {
  const facts = machineFacts(report);
  const lines: (readonly [string, string])[] = [
    ['processor', facts.processor],
    ['memory', facts.memory],
    ['system', facts.system],
    ['package', `${facts.package}, commit ${facts.commit}`],
    ["others' load", facts.load],
    ['date', report.date.slice(0, 10)],
  ];
  const columns: readonly Column<(typeof lines)[number]>[] = [
    { header: '', cell: ([name]) => name },
    { header: '', cell: ([, fact]) => fact },
  ];
  return ['## Machine', markdownTable(columns, lines)];
}

/** What the figures say about the memory and the arithmetic. */
function limits(rows: readonly Row[]): string[] {
  const measured = rows.filter(
    ({ backend, ofBandwidth }) => backend !== null && backend !== 'reference' && ofBandwidth !== null,
  );
  if (measured.length === 0)
    return ['## What the limit is', 'No row of this run is compared with the memory bandwidth.'];
  const below = measured.filter((row) => share(row) < AT_MEMORY);
  const shares = measured.map(share);
  const summary =
    `${measured.length - below.length} of the ${measured.length} rows of this package that are compared with the memory bandwidth reach ${formatShare(AT_MEMORY)} of it or more: there the memory is the limit.` +
    ` The lowest is at ${formatShare(Math.min(...shares))}, the highest at ${formatShare(Math.max(...shares))}.`;
  if (below.length === 0) return ['## What the limit is', summary];
  const columns: readonly Column<Row>[] = [
    shapeColumn,
    { header: 'row', cell: (row) => `${row.op}, ${contenderName(row)} ${row.dtype}` },
    { header: 'of memory', cell: ({ ofBandwidth }) => formatShare(ofBandwidth), numeric: true },
    { header: 'what the run shows', cell: (row) => evidence(row, rows) },
  ];
  return [
    '## What the limit is',
    summary,
    `Below that, arithmetic is the larger part of the limit where halving the bytes (16-bit logits in place of f32) gave less than ${FOLLOWS_BYTES} × the rows per second:`,
    markdownTable(columns, below),
  ];
}

const share = ({ ofBandwidth }: Row) => ofBandwidth ?? Number.NaN;

/** Compares a row with the same op on logits of the other width. */
function evidence(row: Row, rows: readonly Row[]): string {
  const key = ({ section, op, by, backend, threads, shape }: Row) =>
    JSON.stringify([section, op, by, backend, threads, formatShape(shape)]);
  const same = rows.filter((other) => key(other) === key(row));
  const wide = same.find(({ dtype }) => dtype === 'f32');
  const narrow = row.dtype === 'f32' ? same.find(({ dtype }) => dtype === 'bf16' || dtype === 'f16') : row;
  if (wide === undefined || narrow === undefined || wide === narrow) return 'nothing to compare with in this run';
  const gain = narrow.rowsPerSecond / wide.rowsPerSecond;
  const says = `${narrow.dtype} has ${formatRatio(gain)} the rows/s of f32`;
  return `${gain < FOLLOWS_BYTES ? 'mostly arithmetic' : 'mostly the bytes'}: ${says}`;
}

function comparisons({ comparisons: every }: BenchReport): string[] {
  const all = every.filter(({ section }) => section !== 'sweep');
  if (all.length === 0) return [];
  return [
    '## Comparisons',
    'A ratio is taken in every round: `value` is the median of these, and `between` its 99.96 % interval (sign test).',
    markdownTable(comparisonColumns, all),
  ];
}

/** A table for each section and shape. */
function results(rows: readonly Row[]): string[] {
  return [...groupBy(rows, ({ section }) => section).values()].flatMap((ofSection) => {
    const [{ section }] = ofSection;
    const heading = `### ${sectionTitles[section]}`;
    const shapes = groupBy(ofSection, ({ shape }) => formatShape(shape));
    if (shapes.size > HEADINGS) return [heading, markdownTable([shapeColumn, ...rowColumns(section)], ofSection)];
    return [
      heading,
      ...[...shapes].flatMap(([shape, ofShape]) => [`**${shape}**`, markdownTable(rowColumns(section), ofShape)]),
    ];
  });
}

/** Of hundreds of shapes, the slowest; the file has the others. */
function sweep({ comparisons: every }: BenchReport): string[] {
  const ofSweep = every.filter(({ section }) => section === 'sweep');
  if (ofSweep.length === 0) return [];
  const { counts, slowest } = sweepLines(ofSweep);
  return [
    `### ${sectionTitles.sweep}`,
    `${counts} (with the whole interval below 1); calls that both backends run with the same code are left out. The slowest:`,
    markdownTable(sweepColumns, slowest),
  ];
}
