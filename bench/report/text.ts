// How figures are written, in the terminal and in Markdown.
import { contenderName } from './format.js';
import type { BenchReport, Comparison, Row, Shape, Spread } from './report.js';

/** Three digits, and the whole part. */
export function significant(value: number): string {
  if (value >= 1000) return value.toFixed(0);
  return value < 1e-3 && value > 0 ? value.toExponential(1) : value.toPrecision(3);
}

/** The fastest and the slowest tenth, as distances from the median. */
export function spreadText({ median, p10, p90 }: Spread): string {
  const distance = (value: number) => {
    const percent = 100 * (value / median - 1);
    return percent > 999 ? '>10x' : `${percent < 0 ? '-' : '+'}${Math.abs(percent).toFixed(0)}%`;
  };
  return median > 0 ? `${distance(p10)} ${distance(p90)}` : '';
}

const UNITS = [
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
] as const;

/** 39100 as 39.1k. */
export function countText(value: number): string {
  const [unit, letter] = UNITS.find(([size]) => value >= size) ?? [1, ''];
  const count = value / unit;
  return `${count >= 999.5 ? count.toFixed(0) : count.toPrecision(3)}${letter}`;
}

export const rateText = (gigabytes: number) => gigabytes.toFixed(gigabytes < 10 ? 2 : gigabytes < 1000 ? 1 : 0);
export const shareText = (share: number | null) => (share === null ? '' : (100 * share).toFixed(0));
export const errorText = (error: number | null) => (error === null ? '' : error.toExponential(1));

/** Whose code: the package's is told by its backend. */
export function whoText({ by, backend, threads, section }: Row): string {
  const who = contenderName({ by, backend });
  return section === 'threads' ? `${who}, ${threads} thr.` : who;
}

/** A row as the terminal and Markdown show it: op, who, dtype, ms, spread, rows/s, GB/s, share of the memory, error. */
export function rowCells(row: Row, op = row.op): string[] {
  return [
    op,
    whoText(row),
    row.dtype,
    significant(row.milliseconds.median),
    spreadText(row.milliseconds),
    countText(row.rowsPerSecond),
    rateText(row.gigabytesPerSecond),
    shareText(row.ofBandwidth),
    errorText(row.error),
  ];
}

export function shapeText({ tokens, vocab, sequences, groupSize }: Shape): string {
  if (vocab !== undefined && sequences === undefined) return `T x V = ${tokens} x ${vocab}`;
  const parts = [
    vocab === undefined ? `T ${tokens}` : `T x V = ${tokens} x ${vocab}`,
    ...(sequences === undefined ? [] : [`N ${sequences}`]),
    ...(groupSize === undefined ? [] : [`groups of ${groupSize}`]),
  ];
  return parts.join(', ');
}

export function comparisonText({ value, unit }: Comparison): string {
  if (unit === 'percent') return `${value.toFixed(0)} %`;
  return `${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)} x`;
}

export function intervalText({ interval }: Comparison): string {
  return interval === undefined ? '' : interval.map((value) => value.toFixed(2)).join(' ');
}

/** Where it was measured, in one line. */
export function machineText({ machine, backends, node, git, load }: BenchReport): string {
  const of = backends.map(({ name, simd, threads, device }) => {
    const details = [simd, threads === undefined ? undefined : `${threads} threads`, device].filter(Boolean);
    return details.length > 0 ? `${name} (${details.join(', ')})` : name;
  });
  const commit = git.commit === null ? [] : [`commit ${git.commit.slice(0, 12)}${git.dirty ? ', changed' : ''}`];
  return [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, last-level cache ${machine.lastLevelCacheMiB} MiB`,
    of.join(', '),
    `Node ${node}, ${machine.platform}`,
    ...commit,
    `cores busy by others: before ${load.before}, during ${load.during}, after ${load.after}`,
  ].join('; ');
}
