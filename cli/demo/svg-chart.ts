import type { Curve } from './curve.js';

const width = 720;
const height = 400;
const plotArea = { left: 64, right: 570, top: 48, bottom: 344 };
/** Okabe and Ito's colours, which stay apart for colour-blind readers; dashes do so in print. */
const strokes = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
const dashes = ['none', '7 3', '2 3'];
const labelHeight = 18;
/** Length of the piece of the curve beside its name. */
const sampleLength = 24;

const yOf = (accuracy: number) => plotArea.bottom - accuracy * (plotArea.bottom - plotArea.top);
const xOf = (step: number, steps: number) => plotArea.left + (step / steps) * (plotArea.right - plotArea.left);

/** Accuracy over steps as a picture that needs nothing but itself. Each curve has its name, with a piece of it, at its end. */
export function svgChart(curves: readonly Curve[], steps: number): string {
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"` +
      ' font-family="system-ui, sans-serif" font-size="13" fill="#333">',
    `<title>Accuracy over training steps: ${curves.map(({ name }) => escapeXml(name)).join(', ')}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${plotArea.left}" y="28" font-size="15" font-weight="600">Accuracy on all additions, greedy answers</text>`,
    ...horizontalAxis(steps),
    ...verticalAxis(),
    ...curves.map(({ values }, i) => curvePath(values, steps, i)),
    ...curveLabels(curves),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

function horizontalAxis(steps: number): string[] {
  const { left, right, bottom } = plotArea;
  const ticks = stepTicks(steps).map((step) => {
    const x = xOf(step, steps).toFixed(1);
    return (
      `<path d="M${x} ${bottom}v5" stroke="#333"/>` +
      `<text x="${x}" y="${bottom + 20}" text-anchor="middle">${step}</text>`
    );
  });
  return [
    ...ticks,
    `<path d="M${left} ${bottom}H${right}" stroke="#333"/>`,
    `<text x="${(left + right) / 2}" y="${bottom + 42}" text-anchor="middle">training step</text>`,
  ];
}

function verticalAxis(): string[] {
  const { left, right } = plotArea;
  return [0, 0.25, 0.5, 0.75, 1].map((accuracy) => {
    const y = yOf(accuracy);
    return (
      (accuracy === 0 ? '' : `<path d="M${left} ${y}H${right}" stroke="#ddd"/>`) +
      `<text x="${left - 10}" y="${y + 4.5}" text-anchor="end">${accuracy.toFixed(2)}</text>`
    );
  });
}

/** At most seven round numbers from 0 on. */
function stepTicks(steps: number): number[] {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(steps / 6, 1)));
  const interval = [1, 2, 5, 10].map((factor) => factor * magnitude).find((size) => steps / size <= 6) ?? steps;
  return Array.from({ length: Math.floor(steps / interval) + 1 }, (_, i) => i * interval);
}

function curvePath(values: readonly number[], steps: number, curve: number): string {
  const points = values.map((value, step) => `${xOf(step, steps).toFixed(1)},${yOf(value).toFixed(1)}`);
  return `<polyline points="${points.join(' ')}" fill="none" stroke-linejoin="round"${strokeOf(curve)}/>`;
}

/** Each colour comes with another dash the next time round: 18 curves before two look alike. */
function strokeOf(curve: number): string {
  const dash = dashes[(curve + Math.floor(curve / strokes.length)) % dashes.length];
  const dashArray = dash === 'none' ? '' : ` stroke-dasharray="${dash}"`;
  return ` stroke="${strokes[curve % strokes.length]}" stroke-width="2"${dashArray}`;
}

/** Names at the curves' ends, moved apart where the ends meet, and up where they would leave the plot. */
function curveLabels(curves: readonly Curve[]): string[] {
  const ends = curves.map(({ name, values }, curve) => ({ name, curve, value: values[values.length - 1] }));
  ends.sort((a, b) => b.value - a.value);
  const rows: number[] = [];
  for (const { value } of ends) rows.push(Math.max(yOf(value), (rows.at(-1) ?? -Infinity) + labelHeight));
  for (let i = rows.length - 1, limit = plotArea.bottom; i >= 0; i--, limit = rows[i + 1] - labelHeight) {
    rows[i] = Math.min(rows[i], limit);
  }
  const x = plotArea.right + 8;
  return ends.map(({ name, curve, value }, i) => {
    const y = rows[i].toFixed(1);
    return (
      `<path d="M${x} ${y}h${sampleLength}"${strokeOf(curve)}/>` +
      `<text x="${x + sampleLength + 6}" y="${(rows[i] + 4.5).toFixed(1)}" fill="${strokes[curve % strokes.length]}"` +
      ` font-weight="600">${escapeXml(name)} ${value.toFixed(2)}</text>`
    );
  });
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
