// The report as GitHub Markdown: a table for each section and shape.

import { narrowRowColumns, shapeColumn, sweepColumns } from './columns.js';
import { formatComparison, formatShape, machineLine, stepTime } from './figures.js';
import { groupBy, sectionTitles } from './grouping.js';
import { escapeMarkdown, markdownCode, markdownTable } from './markdown-table.js';
import type { BenchReport, Comparison, Row } from './report.js';
import { sweepLines } from './sweep.js';

export function renderMarkdown(report: BenchReport): string {
  const { settings, peers, rows, comparisons } = report;
  const named = peers.map(({ name, version, reason }) =>
    [name, version, reason && `not run: ${reason}`].filter(Boolean).join(' '),
  );
  const sections = (Object.keys(sectionTitles) as Row['section'][]).filter((section) =>
    rows.some((row) => row.section === section),
  );
  const time = stepTime(report);
  return [
    `# ${escapeMarkdown(`${report.package.name} ${report.package.version}, benchmark of ${report.date.slice(0, 10)}`)}\n`,
    ...(time === undefined ? [] : [`${escapeMarkdown(`${time.step} (${time.of}).`)}\n`]),
    `${escapeMarkdown(machineLine(report).join('; '))}.\n`,
    `${markdownCode(settings.command)}: medians of ${settings.repeats} calls after ${settings.warmup}, interleaved.${named.length > 0 ? ` Peers: ${escapeMarkdown(named.join('; '))}.` : ''}\n`,
    ...sections.map((section) => {
      const of = <Item extends { readonly section: Row['section'] }>(items: readonly Item[]) =>
        items.filter((item) => item.section === section);
      return `## ${sectionTitles[section]}\n\n${renderSection(section, of(rows), of(comparisons))}`;
    }),
  ].join('\n');
}

function renderSection(section: Row['section'], rows: readonly Row[], comparisons: readonly Comparison[]): string {
  if (section === 'sweep') return renderSweep(comparisons);
  if (section === 'groups') {
    return `${markdownTable([shapeColumn, ...narrowRowColumns(section).slice(1)], rows)}\n\n${renderClaims(comparisons)}`;
  }
  const claimsOf = groupBy(comparisons, ({ shape }) => formatShape(shape));
  const shapes = [...groupBy(rows, ({ shape }) => formatShape(shape))].map(([shape, ofShape]) => {
    const claims = renderClaims(claimsOf.get(shape) ?? []);
    return `### ${shape}\n\n${markdownTable(narrowRowColumns(section), ofShape)}\n\n${claims}`;
  });
  return shapes.join('\n');
}

function renderClaims(comparisons: readonly Comparison[]): string {
  return comparisons.map((one) => `- ${escapeMarkdown(one.claim)}: ${formatComparison(one)}\n`).join('');
}

function renderSweep(comparisons: readonly Comparison[]): string {
  const { counts, slowest } = sweepLines(comparisons);
  return `${counts}. The slowest:\n\n${markdownTable(sweepColumns, slowest)}\n`;
}
