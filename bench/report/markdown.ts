// The report as GitHub Markdown: a table per section and shape.

import { sectionTitles } from './format.js';
import type { BenchReport, Comparison, Row, Section } from './report.js';
import { sweepLines } from './sweep.js';
import { comparisonText, intervalText, machineText, rowCells, shapeText } from './text.js';

const HEADER = ['op', 'by', 'dtype', 'ms', 'p10 p90', 'rows/s', 'GB/s', '% mem', 'error'];
const TEXT_COLUMNS = 3;

const escaped = (text: string) => text.replace(/[|\\]/g, '\\$&').replace(/\s+/g, ' ');

export function markdownTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  textColumns: number,
): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escaped).join(' | ')} |`;
  const rule = `|${header.map((_, c) => (c < textColumns ? '---' : '---:')).join('|')}|`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}

const claims = (comparisons: readonly Comparison[]) =>
  comparisons.map((one) => `- ${escaped(one.claim)}: ${comparisonText(one)}\n`).join('');

/** Memory and peers beside what they were measured with, each shape once. */
function shapesOf(report: BenchReport, section: Section): string {
  const rows = report.rows.filter((row) => row.section === section);
  const comparisons = report.comparisons.filter((one) => one.section === section);
  if (section === 'sweep') return sweep(comparisons);
  if (section === 'groups') return `${groups(rows)}\n\n${claims(comparisons)}`;
  const shapes = [...new Set(rows.map(({ shape }) => shapeText(shape)))];
  return shapes
    .map((shape) => {
      const at = <T extends { readonly shape: Row['shape'] }>(list: readonly T[]) =>
        list.filter((one) => shapeText(one.shape) === shape);
      const table = markdownTable(
        HEADER,
        at(rows).map((row) => rowCells(row)),
        TEXT_COLUMNS,
      );
      return `### ${escaped(shape)}\n\n${table}\n\n${claims(at(comparisons))}`;
    })
    .join('\n');
}

function groups(rows: readonly Row[]): string {
  const lines = rows.map((row) => [shapeText(row.shape), ...rowCells(row).slice(1)]);
  return markdownTable(['shape', ...HEADER.slice(1)], lines, TEXT_COLUMNS);
}

function sweep(comparisons: readonly Comparison[]): string {
  const { counts, slowest } = sweepLines(comparisons);
  const lines = slowest.map((one) => [one.claim, shapeText(one.shape), comparisonText(one), intervalText(one)]);
  return `${counts}. The slowest:\n\n${markdownTable(['what', 'shape', 'speed', 'between'], lines, 2)}\n`;
}

export function renderMarkdown(report: BenchReport): string {
  const sections = (Object.keys(sectionTitles) as Section[]).filter((section) =>
    report.rows.some((row) => row.section === section),
  );
  const peers = report.peers.map(({ name, version, reason }) =>
    [name, version, reason && `not run: ${reason}`].filter(Boolean).join(' '),
  );
  return [
    `# ${report.package.name} ${report.package.version}, benchmark of ${report.date.slice(0, 10)}\n`,
    `${escaped(machineText(report))}.\n`,
    `\`${report.settings.command}\`: medians of ${report.settings.repeats} calls after ${report.settings.warmup}, interleaved.${peers.length > 0 ? ` Peers: ${escaped(peers.join('; '))}.` : ''}\n`,
    ...sections.map((section) => `## ${sectionTitles[section]}\n\n${shapesOf(report, section)}`),
  ].join('\n');
}
