import type { Column } from './columns.js';
import { printable } from './printable.js';

/** Text that stays as it is in Markdown, whatever it holds: a peer's name or reason may be anything. */
export function escapeMarkdown(text: string): string {
  const visible = printable(text.replace(/\s+/g, ' '));
  const withoutHtml = visible.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return withoutHtml.replace(/[\\`*_[\]|~]/g, (character) => `\\${character}`);
}

/** The same as code, which has no escapes. */
export function markdownCode(text: string): string {
  return `\`${printable(text.replace(/\s+/g, ' ')).replaceAll('`', "'")}\``;
}

export function markdownTable<Item>(columns: readonly Column<Item>[], items: readonly Item[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = `|${columns.map(({ numeric }) => (numeric ? '---:' : '---')).join('|')}|`;
  const rows = items.map((item) => line(columns.map(({ cell }) => escapeMarkdown(cell(item)))));
  return [line(columns.map(({ header }) => header)), rule, ...rows].join('\n');
}
