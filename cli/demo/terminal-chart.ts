import * as ascii from 'asciichart';
import type { Curve } from './curve.js';

const chartWidth = 72;
const chartHeight = 10;
/** Of a chart with more curves than there are line styles. */
const tallChartHeight = 20;
const labelWidth = 5;
/** Columns that one of several curves in the same place gets before it is the next one's turn. */
const turnLength = 2;

/** asciichart draws all curves alike but for the colour; lines of their own keep them apart in a log as well. */
const lineStyles: readonly NonNullable<ascii.PlotConfig['symbols']>[] = [
  ['┼', '┤', '╶', '╴', '─', '╰', '╭', '╮', '╯', '│'],
  ['┼', '┤', '╶', '╴', '═', '╚', '╔', '╗', '╝', '║'],
  ['┼', '┤', '╶', '╴', '┄', '┗', '┏', '┓', '┛', '┆'],
];
const colors = [
  ...[ascii.cyan, ascii.yellow, ascii.magenta, ascii.green, ascii.red, ascii.blue],
  ...[ascii.lightcyan, ascii.lightyellow, ascii.lightmagenta, ascii.lightgreen, ascii.lightred, ascii.lightblue],
];

interface Cell {
  readonly character: string;
  readonly curve: number;
}

/** How curve i of a chart is drawn, and its sample in the legend: a line, or a letter where there are too many for that. */
interface Style {
  readonly symbols: NonNullable<ascii.PlotConfig['symbols']>;
  readonly sample: string;
}

function stylesFor(count: number): Style[] {
  if (count <= lineStyles.length) return lineStyles.map((symbols) => ({ symbols, sample: symbols[4].repeat(3) }));
  return Array.from({ length: count }, (_, curve) => {
    const letter = String.fromCodePoint('a'.codePointAt(0)! + curve);
    const symbols = lineStyles[0].map((symbol, s) => (s < 2 ? symbol : letter)) as Style['symbols']; // the first two: the axis
    return { symbols, sample: letter };
  });
}

/** The curves over steps, in one frame, with a legend. */
export function terminalChart(curves: readonly Curve[], steps: number, useColor: boolean): string {
  const paint = (text: string, curve: number) => (useColor ? ascii.colored(text, colors[curve % colors.length]) : text);
  const styles = stylesFor(curves.length);
  const height = curves.length <= lineStyles.length ? chartHeight : tallChartHeight;
  const rows = overlay(curves.map(({ values }, curve) => drawCurve(values, styles[curve], height)));
  const body = rows.map((row) =>
    row
      .map(({ character, curve }, column) =>
        column > labelWidth && character !== ' ' ? paint(character, curve) : character,
      )
      .join(''),
  );
  const indent = ' '.repeat(labelWidth);
  const legend = wrap(
    curves.map(({ name }, curve) => `${styles[curve].sample} ${name}`),
    paint,
  );
  const lastStep = String(steps);
  return [
    `${indent} accuracy (greedy answers to all questions)`,
    ...legend.map((line) => `${indent} ${line}`),
    ...body,
    `${indent}└${'─'.repeat(chartWidth)}`,
    `${indent} 0${`step ${lastStep}`.padStart(chartWidth - 1)}`,
  ].join('\n');
}

/** Legend entries in lines no wider than the chart. */
function wrap(entries: readonly string[], paint: (text: string, curve: number) => string): string[] {
  const gap = '   ';
  const lines: { width: number; text: string }[] = [];
  entries.forEach((entry, curve) => {
    const width = [...entry].length;
    const line = lines.at(-1);
    if (line === undefined || line.width + gap.length + width > chartWidth) {
      lines.push({ width, text: paint(entry, curve) });
    } else {
      line.width += gap.length + width;
      line.text += gap + paint(entry, curve);
    }
  });
  return lines.map(({ text }) => text);
}

function drawCurve(values: readonly number[], { symbols }: Style, height: number): string[][] {
  const drawing = ascii.plot(resample(values), {
    min: 0,
    max: 1,
    height,
    offset: 2,
    symbols,
    format: (value) => value.toFixed(height > chartHeight ? 2 : 1).padStart(labelWidth),
  });
  return drawing.split('\n').map((row) => [...row.padEnd(labelWidth + 1 + chartWidth)]);
}

/** asciichart draws one column a value. */
function resample(values: readonly number[]): number[] {
  const last = values.length - 1;
  return Array.from({ length: chartWidth + 1 }, (_, column) => values[Math.round((column * last) / chartWidth)]);
}

/** Puts drawings of equal size into one. Where several meet they take turns, so that none is hidden. */
function overlay(drawings: readonly string[][][]): Cell[][] {
  return drawings[0].map((row, r) =>
    row.map((_, column): Cell => {
      const drawn = drawings.flatMap((drawing, curve) => (drawing[r][column] === ' ' ? [] : [curve]));
      const curve = drawn.length === 0 ? 0 : drawn[Math.floor(column / turnLength) % drawn.length];
      return { character: drawings[curve][r][column], curve };
    }),
  );
}
