// Which charts a report has, from the rows that it has. A chart without rows is left out.
import {
  contenderName,
  formatNumber,
  formatRate,
  formatRatio,
  formatShape,
  formatShare,
  formatShortRate,
} from '../figures.js';
import { groupBy } from '../grouping.js';
import type { BenchReport, Row, Section } from '../report.js';
import type { ChartSpec, Point, Series } from './chart-spec.js';
import { guideLook, looks } from './legend.js';

const bytesPerValue: Record<Row['dtype'], number> = { f64: 8, f32: 4, bf16: 2, f16: 2 };
/** From this ratio of the longest to the shortest bar on, the short ones could not be seen on a linear axis. */
const logarithmicFrom = 30;
const longestName = 32;

export function chartsOf(report: BenchReport): ChartSpec[] {
  return [
    ...rooflineCharts(report.rows),
    ...lossCharts(report.rows),
    ...peerCharts(report.rows),
    ...memoryCharts(report.rows),
    ...threadCharts(report.rows),
    ...groupCharts(report.rows),
    ...sweepCharts(report.rows),
  ];
}

const isOurs = (row: Row) => row.backend !== null;
const isYardstick = (row: Row) => row.by === 'memory';
const inSection = (rows: readonly Row[], section: Section) => rows.filter((row) => row.section === section);

/** Names come from peers, and a chart has little room. The tables have them in full. */
function short(name: string): string {
  const characters = [...name];
  return characters.length <= longestName ? name : `${characters.slice(0, longestName - 1).join('')}…`;
}

/** Whole powers of ten around the values, so that a logarithmic axis does not make a mountain of a few percent. */
function decadesAround(values: readonly number[]): { min: number; max: number } {
  const min = Math.floor(Math.log10(Math.min(...values)));
  const max = Math.ceil(Math.log10(Math.max(...values)));
  return { min: 10 ** min, max: 10 ** Math.max(max, min + 1) };
}

const arrayBytes = ({ shape, dtype }: Row) => shape.tokens * (shape.vocab ?? 1) * bytesPerValue[dtype];
const kindOf = (row: Row) => `${contenderName(row)} ${row.dtype}`;
const noteOf = (row: Row) =>
  `${formatShape(row.shape)}: ${formatNumber(row.milliseconds.median)} ms, ${formatRate(row.rowsPerSecond)} rows/s`;

/** A rate at the slowest and at the fastest tenth of the calls. */
function spreadOfRate(rate: number, { median, p10, p90 }: Row['milliseconds']): { low: number; high: number } {
  return { low: (rate * median) / p90, high: (rate * median) / p10 };
}

function bandwidthPoint(row: Row, x: number): Point {
  const y = row.gigabytesPerSecond;
  const share = row.ofBandwidth === null ? '' : `, ${formatShare(row.ofBandwidth)} of the memory bandwidth`;
  const note = `${formatNumber(y)} GB/s${share}. ${noteOf(row)}`;
  return { x, y, ...spreadOfRate(y, row.milliseconds), note };
}

const ROOFS = 'what reading and copying the same arrays reached';
const HALF_THE_BYTES = '16-bit logits are half the bytes, so at the same GB/s they are twice the rows.';

/** GB/s at each shape, one chart per op, under what reading and copying reached at that shape. */
function rooflineCharts(rows: readonly Row[]): ChartSpec[] {
  const token = inSection(rows, 'token').filter(isOurs);
  const bySize = [...token].sort((a, b) => rowSize(a) - rowSize(b));
  const labels = [...groupBy(bySize, ({ shape }) => formatShape(shape)).keys()];
  const lookOf = looks();
  return [...groupBy(token, ({ op }) => op)].map(([op, ofOp], i): ChartSpec => {
    const series = [...groupBy(ofOp, kindOf)].map(([name, ofKind]): Series => {
      const points = ofKind.map((row) => bandwidthPoint(row, labels.indexOf(formatShape(row.shape))));
      return { name: short(name), look: lookOf(name), points: points.sort((a, b) => a.x - b.x) };
    });
    const all = [...series, ...roofs(rows, labels)];
    const chart = { id: `roofline-${i}`, title: `Token level, ${op}: GB/s` };
    if (labels.length === 1) return { ...chart, ...bandwidthBars(labels[0], all) };
    return {
      ...chart,
      caption: `Higher is better; the lines without markers are ${ROOFS}. ${HALF_THE_BYTES}`,
      kind: 'lines',
      x: { title: 'logits, smaller arrays first', scale: 'linear', labels },
      y: { title: 'GB/s', scale: 'linear' },
      series: all,
    };
  });
}

/** Of one shape, where there are no lines to draw: a bar for each. */
function bandwidthBars(shape: string, series: readonly Series[]): Omit<ChartSpec, 'id' | 'title'> {
  const speeds = series.map(({ points: [{ y }] }) => y);
  const { note, ...axis } = barAxis(speeds);
  return {
    caption: `${shape}. Longer is better; those of the memory are ${ROOFS}. ${HALF_THE_BYTES}${note}`,
    kind: 'bars',
    apart: true,
    x: { title: 'GB/s', ...axis },
    y: { title: '', scale: 'linear', labels: series.map(({ name }) => name) },
    series: series.map(({ points: [point], ...one }, category) => ({
      ...one,
      points: [{ ...point, x: point.y, y: category, text: formatNumber(point.y) }],
    })),
  };
}

/** The axis along bars of such lengths: a logarithmic one where the short ones could not be seen otherwise, with a note. */
function barAxis(lengths: readonly number[]): Pick<ChartSpec['x'], 'scale' | 'min'> & { note: string } {
  if (Math.max(...lengths) <= logarithmicFrom * Math.min(...lengths)) return { scale: 'linear', note: '' };
  const note = ' The axis is logarithmic: compare the numbers, not the lengths.';
  return { scale: 'logarithmic', min: decadesAround(lengths).min, note };
}

/** The time of each loss, and of the token level alone, one chart per shape. */
function lossCharts(rows: readonly Row[]): ChartSpec[] {
  const lookOf = looks();
  const ours = inSection(rows, 'losses').filter(isOurs);
  return [...groupBy(ours, ({ shape }) => formatShape(shape))].map(([shape, ofShape], i): ChartSpec => {
    const labels = [...groupBy(ofShape, ({ op }) => op).keys()];
    const series = [...groupBy(ofShape, kindOf)].map(([name, ofKind]): Series => {
      const points = ofKind.map((row) => timePoint(row, labels.indexOf(row.op)));
      return { name: short(name), look: lookOf(name), points };
    });
    const { note, ...axis } = barAxis(ofShape.map(({ milliseconds }) => milliseconds.median));
    return {
      id: `losses-${i}`,
      title: 'Whole losses: milliseconds',
      caption: `${shape}. Shorter is better: a call from the logits to their gradient, which is written over them. What is not a loss is the token level alone, in the same rounds.${note}`,
      kind: 'bars',
      x: { title: 'milliseconds', ...axis },
      y: { title: '', scale: 'linear', labels },
      series,
    };
  });
}

function timePoint(row: Row, category: number): Point {
  const { median, p10, p90 } = row.milliseconds;
  return { x: median, y: category, low: p10, high: p90, note: noteOf(row), text: formatNumber(median) };
}

const rowSize = ({ shape }: Row) => shape.tokens * (shape.vocab ?? 1);

/** Reading and copying at each shape, or their best anywhere where that shape has none. */
function roofs(rows: readonly Row[], labels: readonly string[]): Series[] {
  return [...groupBy(rows.filter(isYardstick), ({ op }) => op)].map(([op, yardsticks], i): Series => {
    const best = Math.max(...yardsticks.map(({ gigabytesPerSecond }) => gigabytesPerSecond));
    const points = labels.map((label, x): Point => {
      const here = yardsticks.find(({ shape }) => formatShape(shape) === label);
      const y = here?.gigabytesPerSecond ?? best;
      return { x, y, note: `${formatNumber(y)} GB/s${here ? '' : ', at another shape'}` };
    });
    return { name: `memory: ${op}`, look: guideLook(i), points };
  });
}

/** Rows per second next to the peers', one chart per op that a peer has. */
function peerCharts(rows: readonly Row[]): ChartSpec[] {
  const lookOf = looks();
  const contenders = rows.filter((row) => !isYardstick(row) && row.backend !== 'reference');
  const ops = groupBy(contenders, ({ section, op }) => JSON.stringify([section, op]));
  const withPeers = [...ops.values()].map(sideBySide).filter((shown) => shown.some(isOurs));
  return withPeers.map((shown, i): ChartSpec => {
    const labels = [...groupBy(shown, ({ shape }) => formatShape(shape)).keys()];
    const series = [...groupBy(shown, contenderAndDtype)].map(([name, ofContender]): Series => {
      const points = ofContender.map((row) => ratePoint(row, labels.indexOf(formatShape(row.shape))));
      return { name: short(name), look: lookOf(name), points };
    });
    const { note, ...axis } = barAxis(shown.map(({ rowsPerSecond }) => rowsPerSecond));
    return {
      id: `peers-${i}`,
      title: `Against peers, ${shown[0].op}: rows per second`,
      caption: `Longer is better. All were called in turn, in the same rounds, on the same data.${note}`,
      kind: 'bars',
      x: { title: 'rows per second', ...axis },
      y: { title: '', scale: 'linear', labels },
      series,
    };
  });
}

/** The rows of shapes and dtypes that a peer has too, our own first. */
function sideBySide(rows: readonly Row[]): Row[] {
  const key = ({ shape, dtype }: Row) => `${formatShape(shape)} ${dtype}`;
  const ofPeers = new Set(rows.filter((row) => !isOurs(row)).map(key));
  const shown = rows.filter((row) => ofPeers.has(key(row)));
  return [...shown.filter(isOurs), ...shown.filter((row) => !isOurs(row))];
}

/** With the package's own name: next to peers, 'cpu' would not say whose. */
const contenderAndDtype = (row: Row) => `${row.by} ${row.backend === null ? '' : `${row.backend} `}${row.dtype}`;

/** Of a horizontal bar: the rate is along x, the shape along y. */
function ratePoint(row: Row, category: number): Point {
  const rate = row.rowsPerSecond;
  const spread = spreadOfRate(rate, row.milliseconds);
  return { x: rate, y: category, ...spread, note: noteOf(row), text: formatShortRate(rate) };
}

const MEMORY_OP = 'forward + backward';

/** The most memory of a call over the number of tokens, one chart per layer. */
function memoryCharts(rows: readonly Row[]): ChartSpec[] {
  const lookOf = looks();
  const measured = inSection(rows, 'linear').filter(({ op, peakBytes }) => op === MEMORY_OP && peakBytes !== undefined);
  const layers = groupBy(measured, ({ shape: { vocab, width } }) => `V=${vocab}, d=${width}`);
  return [...layers].flatMap(([layer, ofLayer], i): ChartSpec[] => {
    const ofContender = [...groupBy(ofLayer, contenderAndDtype)].filter(([, some]) => some.length > 1);
    const series = ofContender.map(([name, some]): Series => {
      const points = some.map(memoryPoint).sort((a, b) => a.x - b.x);
      return { name: short(name), look: lookOf(name), points };
    });
    const tokens = [...new Set(ofContender.flatMap(([, some]) => some.map(({ shape }) => shape.tokens)))];
    const ticks = tokens.sort((a, b) => a - b);
    if (series.length === 0) return [];
    return [
      {
        id: `memory-${i}`,
        title: `From hidden states, ${layer}: memory of a forward and a backward pass`,
        caption:
          'Lower is better: the most memory that a call takes beside its inputs, the gradients of hidden states and weight included. Memory for logits grows with the tokens.',
        kind: 'lines',
        x: { title: 'tokens', scale: 'linear', ticks },
        y: { title: 'MiB', scale: 'linear', min: 0 },
        series,
      },
    ];
  });
}

function memoryPoint({ shape, peakBytes = 0 }: Row): Point {
  const y = peakBytes / 2 ** 20;
  return { x: shape.tokens, y, note: `${formatShape(shape)}: ${formatNumber(y)} MiB` };
}

/** Speed over threads, relative to one, one chart per shape. */
function threadCharts(rows: readonly Row[]): ChartSpec[] {
  const lookOf = looks();
  const ours = inSection(rows, 'threads').filter((row) => isOurs(row) && row.threads !== null);
  return [...groupBy(ours, ({ shape }) => formatShape(shape))].flatMap(([shape, ofShape], i): ChartSpec[] => {
    const series = [...groupBy(ofShape, (row) => `${row.op} ${kindOf(row)}`)].flatMap(([name, ofKind]): Series[] => {
      const points = speedups(ofKind);
      return points.length === 0 ? [] : [{ name: short(name), look: lookOf(name), points }];
    });
    const ticks = [...new Set(ofShape.map(({ threads }) => threads ?? 1))].sort((a, b) => a - b);
    if (series.length === 0 || ticks.length === 1) return [];
    const ideal = ticks.map((threads) => ({
      x: threads,
      y: threads,
      note: 'as many times as fast as there are threads',
    }));
    return [
      {
        id: `threads-${i}`,
        title: `Scaling over threads, ${shape}`,
        caption:
          'Speed relative to one thread. What is limited by the memory stops rising once the memory is saturated.',
        kind: 'lines',
        x: { title: 'threads', scale: 'linear', ticks },
        y: { title: '× one thread', scale: 'linear' },
        series: [...series, { name: 'ideal', look: guideLook(0), points: ideal }],
      },
    ];
  });
}

function speedups(rows: readonly Row[]): Point[] {
  const one = rows.find(({ threads }) => threads === 1)?.milliseconds.median;
  if (one === undefined) return [];
  const points = rows.map(({ threads, milliseconds: { median, p10, p90 }, ...row }): Point => {
    const note = `${formatRatio(one / median)} one thread: ${formatNumber(median)} ms, ${formatRate(row.rowsPerSecond)} rows/s`;
    return { x: threads ?? 1, y: one / median, low: one / p90, high: one / p10, note };
  });
  return points.sort((a, b) => a.x - b.x);
}

/** Time against the size of groups, both logarithmic. */
function groupCharts(rows: readonly Row[]): ChartSpec[] {
  const sized = inSection(rows, 'groups').filter((row) => isOurs(row) && row.shape.groupSize !== undefined);
  if (sized.length === 0) return [];
  const lookOf = looks();
  const sizeOf = (row: Row) => row.shape.groupSize ?? 1;
  const series = [...groupBy(sized, (row) => `${row.op} ${kindOf(row)}, N=${row.shape.sequences}`)].map(
    ([name, ofKind]): Series => {
      const points = ofKind.map((row): Point => {
        const { median, p10, p90 } = row.milliseconds;
        return { x: sizeOf(row), y: median, low: p10, high: p90, note: noteOf(row) };
      });
      return { name: short(name), look: lookOf(name), points: points.sort((a, b) => a.x - b.x) };
    },
  );
  return [
    {
      id: 'groups',
      title: 'Group InfoNCE: time against group size',
      caption:
        'Lower is better. Each positive is compared with every negative of its group; cost that grew with the pairs, not with the sequences, would rise with the group size.',
      kind: 'lines',
      x: {
        title: 'sequences per group',
        scale: 'logarithmic',
        ticks: [...new Set(sized.map(sizeOf))].sort((a, b) => a - b),
      },
      y: {
        title: 'milliseconds',
        scale: 'logarithmic',
        ...decadesAround(sized.map(({ milliseconds }) => milliseconds.median)),
      },
      series,
    },
  ];
}

/** Every shape of the sweep as a point, one chart per op. */
function sweepCharts(rows: readonly Row[]): ChartSpec[] {
  const sweep = inSection(rows, 'sweep').filter((row) => isOurs(row) && row.shape.vocab !== undefined);
  const lookOf = looks();
  return [...groupBy(sweep, ({ op }) => op)].map(([op, ofOp], i): ChartSpec => {
    const series = [...groupBy(ofOp, kindOf)].map(([name, ofKind]): Series => {
      const points = ofKind.map((row) => bandwidthPoint(row, arrayBytes(row)));
      return { name: short(name), look: lookOf(name), points };
    });
    const sizes = ofOp.map(arrayBytes);
    const ends = [Math.min(...sizes), Math.max(...sizes)];
    return {
      id: `sweep-${i}`,
      title: `Sweep over shapes, ${op}: GB/s against array size`,
      caption:
        'One point per shape. Arrays that fit into a cache can exceed the memory’s lines; very small ones show what a call costs.',
      kind: 'points',
      x: { title: 'bytes of the logits', scale: 'logarithmic' },
      y: { title: 'GB/s', scale: 'logarithmic' },
      series: [...series, ...levelRoofs(rows, ends)],
    };
  });
}

/** The best of reading and of copying, from the smallest array to the largest. */
function levelRoofs(rows: readonly Row[], ends: readonly number[]): Series[] {
  return [...groupBy(rows.filter(isYardstick), ({ op }) => op)].map(([op, yardsticks], i): Series => {
    const y = Math.max(...yardsticks.map(({ gigabytesPerSecond }) => gigabytesPerSecond));
    const note = `${formatNumber(y)} GB/s`;
    return { name: `memory: ${op}`, look: guideLook(i), points: ends.map((x) => ({ x, y, note })) };
  });
}
