// What the sections of docs/conformance.md share.
import type { Column } from '../report/columns.js';
import { escapeMarkdown } from '../report/markdown-table.js';
import type { ConformanceResult } from './result.js';

/** When and with what something ran. */
export function runText({ versions, date, git }: Pick<ConformanceResult, 'versions' | 'date' | 'git'>): string {
  const list = Object.entries(versions).map(([name, version]) => escapeMarkdown(`${name} ${version}`));
  const commit = git.commit === null ? '' : `, commit ${git.commit.slice(0, 12)}${git.dirty ? ', changed' : ''}`;
  return `Run on\n${date.slice(0, 10)}${commit}, by \`npm run conformance\` ([how](../bench/README.md#conformance)), with ${list.join(', ')}`;
}

/** A table of cells in Markdown: code in cells, and so not the table of reports, which escapes them. */
export function tableOf<Item>(columns: readonly Column<Item>[], items: readonly Item[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = `|${columns.map(({ numeric }) => (numeric ? '---:' : '---')).join('|')}|`;
  return [
    line(columns.map(({ header }) => header)),
    rule,
    ...items.map((item) => line(columns.map(({ cell }) => cell(item)))),
  ].join('\n');
}
