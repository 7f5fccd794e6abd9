// How a benchmark's figures are written, the same in the terminal, in Markdown, on the HTML page and in docs/performance.md.
// Where a table of the terminal is too narrow for a form, there is a short one next to it.
import type { BenchReport, Comparison, Row, Shape, Spread } from './report.js';

const ABSENT = '–';

/** Without an exponent: a reader compares lengths of numbers too. */
export function formatNumber(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return ABSENT;
  const format = { minimumSignificantDigits: digits, maximumSignificantDigits: digits };
  return value === 0 ? '0' : value.toLocaleString('en-US', format);
}

/** Whole rows, four digits of them. */
export function formatRate(rowsPerSecond: number): string {
  if (!Number.isFinite(rowsPerSecond)) return ABSENT;
  return rowsPerSecond.toLocaleString('en-US', { maximumSignificantDigits: 4 });
}

/** '41.0 k', '1.20 M'. */
export function formatShortRate(rowsPerSecond: number): string {
  const steps = ['', ' k', ' M', ' G', ' T'];
  const rounded = Number(rowsPerSecond.toPrecision(3)); // 999.6 k is 1.00 M
  const step = Math.min(Math.max(Math.floor(Math.log10(Math.abs(rounded)) / 3), 0), steps.length - 1);
  return `${formatNumber(rounded / 1000 ** step)}${steps[step]}`;
}

/** '9.93 – 12.4', in milliseconds. */
export function formatRange(from: number, to: number): string {
  return `${formatNumber(from)} – ${formatNumber(to)}`;
}

/** The fastest and the slowest tenth as distances from the median: '-3% +19%'. */
export function formatSpread({ median, p10, p90 }: Spread, decimals = 0): string {
  const distance = (value: number) => {
    const percent = 100 * (value / median - 1);
    return percent > 999 ? '>10x' : `${percent < 0 ? '-' : '+'}${Math.abs(percent).toFixed(decimals)}%`;
  };
  return median > 0 ? `${distance(p10)} ${distance(p90)}` : ABSENT;
}

/** A share, such as `ofBandwidth`, in percent. */
export function formatShare(share: number | null, decimals = 0): string {
  return share === null ? ABSENT : formatPercent(100 * share, decimals);
}

function formatPercent(percent: number, decimals = 0): string {
  return Number.isFinite(percent) ? `${percent.toFixed(decimals)} %` : ABSENT;
}

export function formatError(error: number | null): string {
  if (error === null || !Number.isFinite(error)) return ABSENT;
  return error === 0 ? '0' : error.toExponential(1);
}

export function formatRatio(ratio: number): string {
  return `${formatNumber(ratio)} ×`;
}

export function formatComparison({ value, unit }: Pick<Comparison, 'value' | 'unit'>): string {
  return unit === 'percent' ? formatPercent(value) : formatRatio(value);
}

/** '0.930 – 1.07', or nothing. */
export function formatInterval({ interval }: Pick<Comparison, 'interval'>): string {
  return interval === undefined ? '' : formatRange(...interval);
}

/** 'T=256, V=151936', 'T=512, V=50257, d=768', 'T=65536, N=4096, groups of 16'. */
export function formatShape({ tokens, vocab, width, sequences, groupSize }: Shape): string {
  const parts = [`T=${tokens}`];
  if (vocab !== undefined) parts.push(`V=${vocab}`);
  if (width !== undefined) parts.push(`d=${width}`);
  if (sequences !== undefined) parts.push(`N=${sequences}`);
  if (groupSize !== undefined) parts.push(`groups of ${groupSize}`);
  return parts.join(', ');
}

/** Without the tokens of sequences: 'N=4096, groups of 16'. */
export function formatShortShape({ tokens, vocab, width, sequences, groupSize }: Shape): string {
  if (vocab !== undefined || sequences === undefined) return formatShape({ tokens, vocab, width });
  return groupSize === undefined ? `N=${sequences}` : `N=${sequences}, groups of ${groupSize}`;
}

/** 'cpu' for this package's own rows, with the name of whoever else made them. */
export function contenderName({ by, backend }: Pick<Row, 'by' | 'backend'>): string {
  if (by === 'memory') return backend === 'cuda' ? 'device memory' : by;
  return backend ?? by;
}

/** With the threads, in the section about them: 'cpu, 2 thr.'. */
export function shortContenderName(row: Pick<Row, 'by' | 'backend' | 'threads' | 'section'>): string {
  const name = contenderName(row);
  return row.section === 'threads' ? `${name}, ${row.threads} thr.` : name;
}

/** Where a report was measured, and how busy the machine was. */
export function machineFacts({ machine, node, package: { name, version }, git, load }: BenchReport) {
  const commit = git.commit?.slice(0, 12) ?? 'not a checkout';
  const cores = (count: number) => `${count.toFixed(2)} cores`;
  return {
    processor: `${machine.cpu}, ${machine.cores} cores, ${machine.lastLevelCacheMiB} MiB last-level cache`,
    memory: `${machine.memoryGiB} GiB`,
    system: `${machine.platform}, Node ${node}`,
    package: `${name} ${version}`,
    commit: git.dirty ? `${commit}, with changes that are not in it` : commit,
    load: `${cores(load.before)} before, at most ${cores(load.during)} in a round that counts, ${cores(load.after)} after`,
  };
}

/** The same as the parts of one line, with the backends. */
export function machineLine(report: BenchReport): string[] {
  const { processor, memory, system, commit, load } = machineFacts(report);
  const backends = report.backends.map(({ name, simd, threads, device }) => {
    const details = [simd, threads === undefined ? undefined : `${threads} threads`, device].filter(Boolean);
    return details.length > 0 ? `${name} (${details.join(', ')})` : name;
  });
  return [
    processor,
    `${memory} of memory`,
    ...backends,
    system,
    ...(report.git.commit === null ? [] : [`commit ${commit}`]),
    `others' load: ${load}`,
  ];
}

/** In the section of losses, what is none. */
export const TOKEN_LEVEL = { forward: 'forward', backward: 'backward in place', both: 'token level alone' } as const;

interface StepTime {
  step: string;
  of: string;
}

/**
 * What a user asks first: how long a step of the batch takes, `of` the first loss that was measured, or where none was the token level.
 * Undefined where that was not measured either.
 */
export function stepTime({ rows }: Pick<BenchReport, 'rows'>): StepTime | undefined {
  const alone: readonly string[] = Object.values(TOKEN_LEVEL);
  const loss = rows.find(({ section, op, backend }) => section === 'losses' && backend !== null && !alone.includes(op));
  if (loss) return stepOf(loss, loss.milliseconds.median, `${loss.op} from ${loss.dtype} logits to their gradient`);
  const forward = rows.find(({ section, op, backend }) => isTokenLevel(section, backend) && op === TOKEN_LEVEL.forward);
  const backward = rows.find(({ section, op, dtype, backend, shape }) => {
    const alike =
      dtype === forward?.dtype && backend === forward.backend && formatShape(shape) === formatShape(forward.shape);
    return alike && isTokenLevel(section, backend) && op === TOKEN_LEVEL.backward;
  });
  if (!forward || !backward) return undefined;
  const milliseconds = forward.milliseconds.median + backward.milliseconds.median;
  return stepOf(
    forward,
    milliseconds,
    `the token level from ${forward.dtype} logits to their gradient, without a loss`,
  );
}

const isTokenLevel = (section: Row['section'], backend: Row['backend']) => section === 'token' && backend !== null;

function stepOf({ shape, backend }: Row, milliseconds: number, what: string): StepTime {
  const rate = formatRate((1000 * shape.tokens) / milliseconds);
  return {
    step: `A step of your batch: ${formatNumber(milliseconds)} ms, ${rate} tokens/s`,
    of: `${what}, ${backend}; ${formatShape(shape)}`,
  };
}
