import { blue, colored, cyan, green, magenta, type PlotConfig, plot, red, yellow } from 'asciichart';
import type { Curve } from './curve.js';

const chartWidth = 72;
const chartHeight = 10;
const labelWidth = 5;
/** Columns that one of several curves in the same place gets before it is the next one's turn. */
const turnLength = 2;

/** asciichart draws all curves alike but for the colour; lines of their own keep them apart in a log as well. */
const lineStyles: readonly NonNullable<PlotConfig['symbols']>[] = [
  ['┼', '┤', '╶', '╴', '─', '╰', '╭', '╮', '╯', '│'],
  ['┼', '┤', '╶', '╴', '═', '╚', '╔', '╗', '╝', '║'],
  ['┼', '┤', '╶', '╴', '┄', '┗', '┏', '┓', '┛', '┆'],
];
const colors = [cyan, yellow, magenta, green, red, blue];

interface Cell {
  readonly character: string;
  readonly curve: number;
}

/** The curves over steps, in one frame, with a legend. */
export function terminalChart(curves: readonly Curve[], steps: number, useColor: boolean): string {
  const paint = (text: string, curve: number) => (useColor ? colored(text, colors[curve % colors.length]) : text);
  const rows = overlay(curves.map(({ values }, curve) => drawCurve(values, curve)));
  const body = rows.map((row) =>
    row
      .map(({ character, curve }, column) =>
        column > labelWidth && character !== ' ' ? paint(character, curve) : character,
      )
      .join(''),
  );
  const legend = curves.map(({ name }, curve) =>
    paint(`${lineStyles[curve % lineStyles.length][4].repeat(3)} ${name}`, curve),
  );
  const indent = ' '.repeat(labelWidth);
  const lastStep = String(steps);
  return [
    `${indent} accuracy (greedy answers to all questions)   ${legend.join('   ')}`,
    ...body,
    `${indent}└${'─'.repeat(chartWidth)}`,
    `${indent} 0${`step ${lastStep}`.padStart(chartWidth - 1)}`,
  ].join('\n');
}

function drawCurve(values: readonly number[], curve: number): string[][] {
  const drawing = plot(resample(values), {
    min: 0,
    max: 1,
    height: chartHeight,
    offset: 2,
    symbols: lineStyles[curve % lineStyles.length],
    format: (value) => value.toFixed(1).padStart(labelWidth),
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
