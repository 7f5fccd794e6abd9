// Everything that the charts show and what they leave out, as tables.
import { allRowColumns, type Column, comparisonColumns } from '../columns.js';
import { formatShape } from '../figures.js';
import { groupBy, sectionTitles } from '../grouping.js';
import type { BenchReport, Comparison, Row } from '../report.js';
import { html, type Markup } from './markup.js';

/** A table for each section, with all its rows. */
export function resultTables(rows: readonly Row[]): Markup[] {
  return [...groupBy(rows, ({ section }) => section).values()].map((ofSection) => {
    const [{ section }] = ofSection;
    return html`<h3 id="table-${section}">${sectionTitles[section] ?? section}</h3>
${table(`All rows: ${sectionTitles[section] ?? section}`, allRowColumns(section), ofSection)}`;
  });
}

export function comparisonTable(comparisons: readonly Comparison[]): Markup {
  return table('Comparisons', comparisonColumns, comparisons);
}

/** Who else took part, and who did not, with the reason. */
export function peerTable(peers: BenchReport['peers']): Markup {
  const columns: readonly Column<BenchReport['peers'][number]>[] = [
    { header: 'peer', cell: ({ name }) => name, text: true },
    { header: 'version', cell: ({ version }) => version ?? '–' },
    { header: 'took part', cell: ({ reason }) => (reason === undefined ? 'yes' : `no: ${reason}`), text: true },
  ];
  return table('Peers', columns, peers);
}

/** It scrolls by itself where it is wider than the page, which the keyboard must reach: hence the tabindex. */
function table<Item extends object>(label: string, columns: readonly Column<Item>[], items: readonly Item[]): Markup {
  const classOf = ({ numeric, text }: Column<Item>) => (numeric ? 'number' : text ? 'text' : 'name');
  const head = columns.map((column) => html`<th scope="col" class="${classOf(column)}">${column.header}</th>`);
  const body = items.map((item, i) => {
    const cells = columns.map((column) => html`<td class="${classOf(column)}">${column.cell(item)}</td>`);
    return html`<tr${startsShape(items, i) ? html` class="first"` : ''}>${cells}</tr>\n`;
  });
  return html`<div class="table" role="region" aria-label="${label}" tabindex="0"><table>
<thead><tr>${head}</tr></thead>
<tbody>
${body}</tbody></table></div>`;
}

/** Where a line helps the eye: the shape is another one than in the row above. */
function startsShape(items: readonly object[], i: number): boolean {
  const shapeOf = (item: object) => ('shape' in item ? formatShape((item as Row).shape) : '');
  return i > 0 && shapeOf(items[i]) !== shapeOf(items[i - 1]);
}
