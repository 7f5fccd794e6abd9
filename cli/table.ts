import { printable } from '../bench/report/printable.js';

/** Wide enough for a group's name; with the numbers beside it, a table stays within 100 columns. */
const defaultMaxWidth = 24;

export interface Column {
  readonly header: string;
  readonly align: 'left' | 'right';
  /** Longer cells are cut. */
  readonly maxWidth?: number;
}

/** A plain text table: a header, a rule, the rows, and a rule before `footer` if there is one. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  footer?: readonly string[],
): string {
  const body = [...rows, ...(footer === undefined ? [] : [footer])].map((row) =>
    row.map((cell, c) => shorten(cell, columns[c].maxWidth ?? defaultMaxWidth)),
  );
  const widths = columns.map(({ header }, c) =>
    body.reduce((width, row) => Math.max(width, [...row[c]].length), header.length),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, c) => pad(cell, widths[c], columns[c].align))
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('──');
  const lines = [line(columns.map(({ header }) => header)), rule, ...body.slice(0, rows.length).map(line)];
  if (footer !== undefined) lines.push(rule, line(body[rows.length]));
  return lines.join('\n');
}

/** Names come from the user's file: they must not reach the terminal as they are, nor long ones break the table. */
function shorten(text: string, maxWidth: number): string {
  const characters = [...printable(text)];
  if (characters.length <= maxWidth) return characters.join('');
  return `${characters.slice(0, maxWidth - 1).join('')}…`;
}

function pad(text: string, width: number, align: Column['align']): string {
  const padding = ' '.repeat(width - [...text].length);
  return align === 'left' ? text + padding : padding + text;
}
