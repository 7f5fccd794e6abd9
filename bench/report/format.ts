// How a benchmark's figures are written, the same in every form of its result.
import type { Comparison, Row, Shape } from './report.js';

const absent = '–';

/** Three significant digits, without an exponent: a reader compares lengths of numbers too. */
function significant(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return absent;
  const format = { minimumSignificantDigits: digits, maximumSignificantDigits: digits };
  return value === 0 ? '0' : value.toLocaleString('en-US', format);
}

export function formatMilliseconds(milliseconds: number): string {
  return significant(milliseconds);
}

/** Whole rows, four digits of them. */
export function formatRate(rowsPerSecond: number): string {
  if (!Number.isFinite(rowsPerSecond)) return absent;
  return rowsPerSecond.toLocaleString('en-US', { maximumSignificantDigits: 4 });
}

/** '41.0 k', '1.20 M': where there is little room. */
export function formatShortRate(rowsPerSecond: number): string {
  const steps = ['', ' k', ' M', ' G', ' T'];
  const step = Math.min(Math.max(Math.floor(Math.log10(Math.abs(rowsPerSecond)) / 3), 0), steps.length - 1);
  return `${significant(rowsPerSecond / 1000 ** step)}${steps[step]}`;
}

export function formatGigabytesPerSecond(gigabytesPerSecond: number): string {
  return significant(gigabytesPerSecond);
}

/** A share, such as `ofBandwidth`, as whole percent. */
export function formatShare(share: number | null): string {
  return share === null ? absent : formatPercent(100 * share);
}

function formatPercent(percent: number): string {
  return Number.isFinite(percent) ? `${percent.toFixed(0)} %` : absent;
}

export function formatError(error: number | null): string {
  if (error === null || !Number.isFinite(error)) return absent;
  return error === 0 ? '0' : error.toExponential(1);
}

export function formatComparison({ value, unit }: Pick<Comparison, 'value' | 'unit'>): string {
  return unit === 'percent' ? formatPercent(value) : `${significant(value)} ×`;
}

/** '0.93 – 1.07', or nothing. */
export function formatInterval({ interval }: Pick<Comparison, 'interval'>): string {
  return interval === undefined ? '' : interval.map((value) => significant(value)).join(' – ');
}

/** '0.08 cores', '1.50 cores'. */
export function formatCores(cores: number): string {
  return `${cores.toFixed(2)} cores`;
}

/** 'T=256, V=151936', 'T=65536, N=4096, groups of 16'. */
export function shapeName({ tokens, vocab, sequences, groupSize }: Shape): string {
  const parts = [`T=${tokens}`];
  if (vocab !== undefined) parts.push(`V=${vocab}`);
  if (sequences !== undefined) parts.push(`N=${sequences}`);
  if (groupSize !== undefined) parts.push(`groups of ${groupSize}`);
  return parts.join(', ');
}

/** 'cpu' for this package's own rows, with the name of whoever else made them. */
export function contenderName({ by, backend }: Pick<Row, 'by' | 'backend'>): string {
  if (by === 'memory') return backend === 'cuda' ? 'device memory' : by;
  return backend ?? by;
}

export const sectionTitles = {
  memory: 'Memory: reading and copying',
  token: 'Token level: log-probs and their gradient',
  scores: 'Sequence scores',
  objectives: 'Group objectives',
  losses: 'Whole losses, from logits to gradient',
  groups: 'Group InfoNCE over group sizes',
  calls: 'What a call costs',
  threads: 'Threads',
  sweep: 'Sweep over shapes',
} as const satisfies Record<Row['section'], string>;

/** The rows in groups of equal keys, in the order in which the keys come. */
export function groupBy<Item>(items: readonly Item[], key: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const name = key(item);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return groups;
}
