// Everything that the charts show and what they leave out, as tables.
import {
  contenderName,
  formatComparison,
  formatError,
  formatGigabytesPerSecond,
  formatInterval,
  formatMilliseconds,
  formatRate,
  formatShare,
  groupBy,
  sectionTitles,
  shapeName,
} from '../format.js';
import type { BenchReport, Comparison, Row } from '../report.js';
import { type Content, html, type Markup } from './markup.js';

interface Column<Item> {
  readonly header: string;
  readonly cell: (item: Item) => Content;
  readonly numeric?: boolean;
  /** May be long: breaks wherever it must, where all else stays on one line. */
  readonly text?: boolean;
}

const rowColumns: readonly Column<Row>[] = [
  { header: 'shape', cell: ({ shape }) => shapeName(shape) },
  { header: 'op', cell: ({ op }) => op },
  { header: 'by', cell: contenderName, text: true },
  { header: 'type', cell: ({ dtype }) => dtype },
  { header: 'threads', cell: ({ threads }) => threads ?? '–', numeric: true },
  { header: 'ms', cell: ({ milliseconds }) => formatMilliseconds(milliseconds.median), numeric: true },
  { header: 'p10 – p90', cell: ({ milliseconds: { p10, p90 } }) => range(p10, p90), numeric: true },
  { header: 'min – max', cell: ({ milliseconds: { min, max } }) => range(min, max), numeric: true },
  { header: 'rows/s', cell: ({ rowsPerSecond }) => formatRate(rowsPerSecond), numeric: true },
  { header: 'GB/s', cell: ({ gigabytesPerSecond }) => formatGigabytesPerSecond(gigabytesPerSecond), numeric: true },
  { header: 'of memory', cell: ({ ofBandwidth }) => formatShare(ofBandwidth), numeric: true },
  { header: 'error', cell: ({ error }) => formatError(error), numeric: true },
];

const comparisonColumns: readonly Column<Comparison>[] = [
  { header: 'claim', cell: ({ claim }) => claim, text: true },
  { header: 'shape', cell: ({ shape }) => shapeName(shape) },
  { header: 'value', cell: formatComparison, numeric: true },
  { header: 'between', cell: formatInterval, numeric: true },
];

const range = (from: number, to: number) => `${formatMilliseconds(from)} – ${formatMilliseconds(to)}`;

/** A table for each section, with all its rows. */
export function resultTables(rows: readonly Row[]): Markup[] {
  return [...groupBy(rows, ({ section }) => section).values()].map((ofSection) => {
    const [{ section }] = ofSection;
    return html`<h3 id="table-${section}">${sectionTitles[section] ?? section}</h3>
${table(`All rows: ${sectionTitles[section] ?? section}`, rowColumns, ofSection)}`;
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
  const shapeOf = (item: object) => ('shape' in item ? shapeName((item as Row).shape) : '');
  return i > 0 && shapeOf(items[i]) !== shapeOf(items[i - 1]);
}
