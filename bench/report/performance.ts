// docs/performance.md from a result of `rlvr-kernels bench --json`: every number in it comes from that result.
import {
  contenderName,
  formatComparison,
  formatCores,
  formatError,
  formatGigabytesPerSecond,
  formatInterval,
  formatMilliseconds,
  formatRate,
  formatShare,
  groupBy,
  sectionTitles,
  shapeName,
} from './format.js';
import type { BenchReport, Row } from './report.js';
import { sweepLines } from './sweep.js';

interface Column {
  readonly header: string;
  readonly right?: boolean;
}

interface RowColumn extends Column {
  cell(row: Row): string;
}

/** From this share of the memory's speed on, a row is said to run at it. */
const AT_MEMORY = 0.7;
/** Half the bytes, and less than this many times the rows per second: the time did not follow the bytes. */
const FOLLOWS_BYTES = 1.5; // halfway from no gain to that of half the bytes
/** A section with more shapes than this has them in a column, not as headings. */
const HEADINGS = 6;

const COLUMNS: readonly RowColumn[] = [
  { header: 'op', cell: ({ op }) => op },
  { header: 'by', cell: contenderName },
  { header: 'type', cell: ({ dtype }) => dtype },
  { header: 'threads', cell: ({ threads }) => `${threads ?? '–'}`, right: true },
  { header: 'ms', cell: ({ milliseconds }) => formatMilliseconds(milliseconds.median), right: true },
  {
    header: 'p10 – p90',
    cell: ({ milliseconds: { p10, p90 } }) => `${formatMilliseconds(p10)} – ${formatMilliseconds(p90)}`,
    right: true,
  },
  { header: 'rows/s', cell: ({ rowsPerSecond }) => formatRate(rowsPerSecond), right: true },
  { header: 'GB/s', cell: ({ gigabytesPerSecond }) => formatGigabytesPerSecond(gigabytesPerSecond), right: true },
  { header: 'of memory', cell: ({ ofBandwidth }) => formatShare(ofBandwidth), right: true },
  { header: 'error', cell: ({ error }) => formatError(error), right: true },
];

/** The whole document. `file`: where the result is, from the root. */
export function performanceDocument(report: BenchReport, file: string): string {
  return [
    `<!-- Generated from ${file} by cli/dev/write-performance.ts (npm run docs:performance). Do not edit. -->`,
    '# Performance',
    `Generated from [\`${file}\`](../${file}) by \`npm run docs:performance\`. Figures of one run on one machine: ratios within it travel, figures do not.`,
    ...method(report),
    ...machine(report),
    ...limits(report.rows),
    ...comparisons(report),
    '## Results',
    ...results(report.rows.filter(({ section }) => section !== 'sweep')),
    ...sweep(report),
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}

function method({ settings: { command, repeats, warmup, seed, quiet }, peers }: BenchReport): string[] {
  const ran = peers.filter(({ reason }) => reason === undefined);
  const missing = peers.filter(({ reason }) => reason !== undefined);
  const names = ran.map(({ name, version }) => text([name, version].filter(Boolean).join(' ')));
  return [
    '## Method',
    `\`${command.replaceAll('`', "'")}\`: each contender's result is checked against float64, then ${repeats} rounds (after ${warmup} to warm up) time every contender once, in turn, on the same data (seed ${seed}).` +
      `${quiet ? ' Rounds in which other processes were at work were thrown away and repeated.' : ''} [bench/README.md](../bench/README.md) says more.`,
    "`ms` is the median, `p10 – p90` leaves out the fastest and the slowest tenth. GB/s counts the bytes that the task must move; `of memory` is the time that reading and copying those bytes took in the same rounds, over the row's. `error` is relative, against float64.",
    ...(names.length > 0 ? [`Peers: ${names.join(', ')}.`] : []),
    ...missing.map(({ name, reason }) => `Not run: ${text(name)} (${text(reason ?? '')}).`),
  ];
}

function machine({ machine: m, node, package: { name, version }, git, load, date }: BenchReport): string[] {
  const commit = `${git.commit?.slice(0, 12) ?? 'not a checkout'}${git.dirty ? ', with changes that are not in it' : ''}`;
  const facts = [
    ['processor', `${m.cpu}, ${m.cores} cores, ${m.lastLevelCacheMiB} MiB last-level cache`],
    ['memory', `${m.memoryGiB} GiB`],
    ['system', `${m.platform}, Node ${node}`],
    ['package', `${name} ${version}, commit ${commit}`],
    [
      "others' load",
      `${formatCores(load.before)} before, at most ${formatCores(load.during)} in a round that counts, ${formatCores(load.after)} after`,
    ],
    ['date', date.slice(0, 10)],
  ];
  return ['## Machine', table([{ header: '' }, { header: '' }], facts)];
}

/** What the figures say of the memory and of the arithmetic. */
function limits(rows: readonly Row[]): string[] {
  const measured = rows.filter(
    ({ backend, ofBandwidth }) => backend !== null && backend !== 'reference' && ofBandwidth !== null,
  );
  if (measured.length === 0) return ['## What the limit is', 'No row of this run was held against the memory.'];
  const below = measured.filter((row) => share(row) < AT_MEMORY);
  const shares = measured.map(share);
  const summary =
    `${measured.length - below.length} of the ${measured.length} rows of this package that are held against the memory run at ${formatShare(AT_MEMORY)} of its speed or more: there the memory is the limit.` +
    ` The lowest is at ${formatShare(Math.min(...shares))}, the highest at ${formatShare(Math.max(...shares))}.`;
  if (below.length === 0) return ['## What the limit is', summary];
  const columns = [
    { header: 'shape' },
    { header: 'row' },
    { header: 'of memory', right: true },
    { header: 'what the run shows' },
  ];
  const cells = below.map((row) => [
    shapeName(row.shape),
    `${row.op}, ${contenderName(row)} ${row.dtype}`,
    formatShare(row.ofBandwidth),
    evidence(row, rows),
  ]);
  return [
    '## What the limit is',
    summary,
    `Below that, arithmetic is the larger part of the limit where halving the bytes (16-bit logits in place of f32) gave less than ${FOLLOWS_BYTES} × the rows per second:`,
    table(columns, cells),
  ];
}

const share = ({ ofBandwidth }: Row) => ofBandwidth ?? Number.NaN;

/** Compares a row with the same op on logits of the other width. */
function evidence(row: Row, rows: readonly Row[]): string {
  const key = ({ section, op, by, backend, threads, shape }: Row) =>
    JSON.stringify([section, op, by, backend, threads, shapeName(shape)]);
  const same = rows.filter((other) => key(other) === key(row));
  const wide = same.find(({ dtype }) => dtype === 'f32');
  const narrow = row.dtype === 'f32' ? same.find(({ dtype }) => dtype === 'bf16' || dtype === 'f16') : row;
  if (wide === undefined || narrow === undefined || wide === narrow) return 'nothing to compare with in this run';
  const gain = narrow.rowsPerSecond / wide.rowsPerSecond;
  const says = `${narrow.dtype} has ${formatComparison({ value: gain, unit: 'times' })} the rows/s of f32`;
  return `${gain < FOLLOWS_BYTES ? 'mostly arithmetic' : 'mostly the bytes'}: ${says}`;
}

function comparisons({ comparisons: every }: BenchReport): string[] {
  const all = every.filter(({ section }) => section !== 'sweep');
  if (all.length === 0) return [];
  const right = true;
  const columns = [{ header: 'claim' }, { header: 'shape' }, { header: 'value', right }, { header: 'between', right }];
  return [
    '## Comparisons',
    'A ratio is taken in every round; `value` is the median, and lies in the interval with all likelihood.',
    table(
      columns,
      all.map((one) => [one.claim, shapeName(one.shape), formatComparison(one), formatInterval(one)]),
    ),
  ];
}

/** A table for each section and shape. */
function results(rows: readonly Row[]): string[] {
  return [...groupBy(rows, ({ section }) => section).values()].flatMap((ofSection) => {
    const heading = `### ${sectionTitles[ofSection[0].section]}`;
    const shapes = groupBy(ofSection, ({ shape }) => shapeName(shape));
    if (shapes.size > HEADINGS)
      return [heading, rowTable(ofSection, [{ header: 'shape', cell: ({ shape }) => shapeName(shape) }])];
    return [heading, ...[...shapes].flatMap(([shape, ofShape]) => [`**${shape}**`, rowTable(ofShape)])];
  });
}

/** Of hundreds of shapes, the slowest; the file has the others. */
function sweep({ comparisons: every }: BenchReport): string[] {
  const ofSweep = every.filter(({ section }) => section === 'sweep');
  if (ofSweep.length === 0) return [];
  const { counts, slowest } = sweepLines(ofSweep);
  const right = true;
  const columns = [{ header: 'claim' }, { header: 'shape' }, { header: 'speed', right }, { header: 'between', right }];
  const cells = slowest.map((one) => [one.claim, shapeName(one.shape), formatComparison(one), formatInterval(one)]);
  return [
    `### ${sectionTitles.sweep}`,
    `${counts} (with all of the interval below 1); calls that both do with the same code are left out. The slowest:`,
    table(columns, cells),
  ];
}

function rowTable(rows: readonly Row[], before: readonly RowColumn[] = []): string {
  const columns = [...before, ...COLUMNS];
  return table(
    columns,
    rows.map((row) => columns.map(({ cell }) => cell(row))),
  );
}

function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = `|${columns.map(({ right }) => (right ? '---:' : '---')).join('|')}|`;
  return [line(columns.map(({ header }) => header)), rule, ...rows.map((cells) => line(cells.map(text)))].join('\n');
}

/** A peer's name or reason may hold anything. */
function text(value: string): string {
  const visible = value.replace(/\p{C}/gu, '\ufffd').replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return visible.replace(/[\\`*_[\]|~]/g, (character) => `\\${character}`);
}
