// The README's charts, docs/speed.svg and docs/accuracy.svg: every number in them comes from a file of bench/results.
//
//   node scripts/readme-charts.mjs      (npm run docs:charts)
//
// Speed is drawn from the result that docs/performance.md names, accuracy from what scripts/measure-accuracy.mjs wrote. A
// test compares the committed files with what this draws.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * @typedef {{ label: string, value: number, text: string, colour: string }} Bar
 * @typedef {{ title: string, note: string, bars: Bar[], length: (value: number) => number }} Panel
 */

const ACCURACY = 'bench/results/accuracy-amd-epyc-2c.json';

const WIDTH = 480; // at 375 px, text of 14 is 10 px high
const MARGIN = 16;
const LONGEST = 350; // of a bar, in front of its number
const OURS = '#1f6feb';
const OTHERS = '#8b949e';
const LIMIT = '#3a9d5d';

/** @param {string} text */
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

/** @param {number} x @param {number} y @param {string} text @param {string} [style] */
const textAt = (x, y, text, style = '') => `<text x="${x}" y="${y}"${style}>${escaped(text)}</text>`;

/** @param {Panel} panel @param {number} top @returns {{ height: number, lines: string[] }} */
function drawPanel({ title, note, bars, length }, top) {
  const lines = [
    textAt(MARGIN, top + 16, title, ' font-weight="600"'),
    textAt(MARGIN, top + 34, note, ' font-size="12" fill="#57606a"'),
  ];
  let y = top + 46;
  for (const { label, value, text, colour } of bars) {
    const wide = Math.max(length(value) * LONGEST, 2).toFixed(1);
    lines.push(
      textAt(MARGIN, y + 12, label),
      `<rect x="${MARGIN}" y="${y + 18}" width="${wide}" height="12" rx="2" fill="${colour}"/>`,
      textAt(MARGIN + Number(wide) + 8, y + 29, text, ' font-weight="600"'),
    );
    y += 40;
  }
  return { height: y - top, lines };
}

/** @param {string} file @param {string} title @param {readonly Panel[]} panels */
function chart(file, title, panels) {
  let y = MARGIN;
  const lines = panels.flatMap((panel) => {
    const { height, lines } = drawPanel(panel, y);
    y += height + 12;
    return lines;
  });
  const described = panels.flatMap(({ title, bars }) => [title, ...bars.map(({ label, text }) => `${label}: ${text}`)]);
  return [
    `<!-- Generated from ${file} by scripts/readme-charts.mjs (npm run docs:charts). Do not edit. -->`,
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img" aria-labelledby="t d"`,
    '  font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="14" fill="#1f2328">',
    `<title id="t">${escaped(title)}</title>`,
    `<desc id="d">${escaped(described.join('; '))}</desc>`,
    `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${y - 1}" rx="6" fill="#ffffff" stroke="#d0d7de"/>`,
    ...lines,
    '</svg>',
    '',
  ].join('\n');
}

/** @param {string} root @param {string} file */
const read = (root, file) => JSON.parse(readFileSync(join(root, file), 'utf8'));

/** @param {{ by: string, threads: number | null }} row */
function speedLabel({ by, threads }) {
  if (by === 'memory') return 'reading the logits: the memory bandwidth';
  return threads === 1 ? `${by}, one thread` : by;
}

/** @param {string} root @param {string} file */
function speedChart(root, file) {
  const { rows, machine, node, backends } = read(root, file);
  /** @type {any[]} */
  const f32 = rows.filter((/** @type {any} */ { dtype }) => dtype === 'f32');
  const { shape } = f32.find(({ section }) => section === 'token');
  const same = f32.filter((row) => row.shape.tokens === shape.tokens && row.shape.vocab === shape.vocab);
  const panel = (/** @type {string} */ title, /** @type {string} */ note, /** @type {any[]} */ chosen) => {
    const bars = chosen
      .sort((a, b) => b.gigabytesPerSecond - a.gigabytesPerSecond)
      .map((row) => ({
        label: speedLabel(row),
        value: row.gigabytesPerSecond,
        text: `${row.gigabytesPerSecond.toPrecision(3)} GB/s`,
        colour: row.by === 'rlvr-kernels' ? OURS : row.by === 'memory' ? LIMIT : OTHERS,
      }));
    const fastest = Math.max(...bars.map(({ value }) => value));
    return { title, note, bars, length: (/** @type {number} */ value) => value / fastest };
  };
  const token = same.filter(({ section }) => section === 'token');
  const memory = same.find(({ section, op }) => section === 'memory' && op === 'read');
  const { simd, threads } = backends.find((/** @type {any} */ { name }) => name === 'cpu');
  const where = `f32, T=${shape.tokens}, V=${shape.vocab}; ${machine.cpu}, ${simd}, ${threads} threads, Node ${node.slice(1)}`;
  const forward = token.filter(({ op }) => op === 'forward');
  return chart(file, 'Speed of the token level, on a CPU', [
    panel('Log-probs from logits (more is better)', where, [memory, ...forward]),
    panel(
      'Log-probs and the gradient of the logits',
      'bytes that the task must move, over the time; the same run',
      token.filter(({ op }) => op === 'forward + backward'),
    ),
  ]);
}

/** @param {string} root @param {string} file */
function accuracyChart(root, file) {
  const { rows, settings, machine } = read(root, file);
  const [least, most] = [-8, -1]; // powers of ten at the two ends of the scale
  const length = (/** @type {number} */ value) => (Math.log10(value) - least) / (most - least);
  const panel = (/** @type {string} */ dtype, /** @type {string} */ title, /** @type {string} */ note) => ({
    title,
    note,
    length,
    bars: rows
      .filter((/** @type {any} */ row) => row.dtype === dtype)
      .sort((/** @type {any} */ a, /** @type {any} */ b) => a.largest - b.largest)
      .map((/** @type {any} */ { by, how, largest }) => ({
        label: by === 'rlvr-kernels' ? by : `${by}, ${how}`,
        value: largest,
        text: largest.toExponential(1).replace('e-', 'e−'),
        colour: by === 'rlvr-kernels' ? OURS : OTHERS,
      })),
  });
  const where = `largest, log scale (less is better); T=${settings.tokens}, V=${settings.vocab}; ${machine.cpu}`;
  return chart(file, 'Accuracy of log-probs, against float64', [
    panel('bf16', 'Error of log-probs from bf16 logits', where),
    panel('f32', 'Error of log-probs from f32 logits', 'the same run'),
  ]);
}

/** The result that docs/performance.md was made from. @param {string} root */
function speedResult(root) {
  const [, file] = /^<!-- Generated from (\S+) by/.exec(readFileSync(join(root, 'docs/performance.md'), 'utf8')) ?? [];
  if (file === undefined) throw new Error('docs/performance.md names no result file');
  return file;
}

/** The charts, by their paths from the root. @param {string} root @returns {Record<string, string>} */
export function charts(root) {
  return {
    'docs/speed.svg': speedChart(root, speedResult(root)),
    'docs/accuracy.svg': accuracyChart(root, ACCURACY),
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const root = fileURLToPath(new URL('..', import.meta.url));
  for (const [file, svg] of Object.entries(charts(root))) writeFileSync(join(root, file), svg);
}
