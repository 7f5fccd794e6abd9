// Every form of a report has its rows in sections, and in those by shape.
import type { Row } from './report.js';

export const sectionTitles = {
  memory: 'Memory: reading and copying',
  token: 'Token level: log-probs and their gradient',
  scores: 'Sequence scores',
  objectives: 'Group objectives',
  losses: 'Whole losses, from logits to gradient',
  linear: 'From hidden states',
  groups: 'Group InfoNCE over group sizes',
  calls: 'What a call costs',
  threads: 'Threads',
  sweep: 'Sweep over shapes',
} as const satisfies Record<Row['section'], string>;

/** The items in groups of equal keys, in the order in which the keys come. */
export function groupBy<Item>(items: readonly Item[], key: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const name = key(item);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return groups;
}
