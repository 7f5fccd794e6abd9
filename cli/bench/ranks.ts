// `bench ranks`, under mpirun: each rank is one such process, and the first one prints.

import type { Command } from 'commander';
import { formatNumber, formatRatio } from '../../bench/report/figures.js';
import { measureRanks, type RanksRow } from '../../bench/sections/ranks.js';
import { dtypeNamed } from '../../lib/kernels.js';
import { openMpi } from '../../lib/mpi/index.js';
import { UsageError } from '../errors.js';
import { renderTable } from '../table.js';
import type { BenchOptions } from './arguments.js';

/** The options of `bench` that it has. */
const OWN: ReadonlySet<string> = new Set(['tokens', 'vocab', 'dtype', 'groupSize', 'repeats', 'warmup', 'seed']);
const TOKENS = 1024;
const VOCAB = 32_000;

/** Whether the sections are that one; it is measured by itself. */
export function isRanks(sections: readonly string[]): boolean {
  if (!sections.includes('ranks')) return false;
  if (sections.length === 1) return true;
  throw new UsageError(`Expected no sections beside ranks, got ${sections.join(', ')}.`);
}

export async function benchRanks(command: Command, options: BenchOptions): Promise<void> {
  const other = Object.keys(options).find((name) => command.getOptionValueSource(name) === 'cli' && !OWN.has(name));
  if (other !== undefined) {
    const flags = command.options.find((option) => option.attributeName() === other)?.long ?? other;
    throw new UsageError(`Expected none but ${[...OWN].join(', ')} with ranks, got ${flags}.`);
  }
  const { tokens = TOKENS, vocab = VOCAB, dtype = ['f32'], groupSize, repeats, warmup, seed } = options;
  const dtypes = [...new Set(dtype.map(dtypeNamed))];
  const world = openMpi();
  const print = (text: string) => void (world.rank === 0 && process.stdout.write(text));
  if (vocab < world.size) throw new UsageError(`Expected --vocab of at least a column for each rank, got ${vocab}.`);
  print(`${world.size} ranks over ${world.library.version}\n${tokens} tokens a rank, vocabulary ${vocab}\n\n`);
  const rows: RanksRow[] = [];
  for await (const row of measureRanks(world, { tokens, vocab, dtypes, groupSize, repeats, warmup, seed }))
    rows.push(row);
  print(`${renderRows(rows)}\n${EXPLANATION}`);
  await world.close();
}

const EXPLANATION = `
Alone is what one rank takes while the others wait: for its own sequences or tokens, or for all columns. Apart is
the slowest of all ranks at once, each by itself with its own sequences, tokens or columns, as if there were no
others: they share the machine. Ranks is the slowest of all ranks together. Sent is what each rank tells the
others, in bytes per token of its own.
`;

function renderRows(rows: readonly RanksRow[]): string {
  const headers = [
    'loss',
    'from',
    'ranks share',
    'tokens',
    'alone ms',
    'apart ms',
    'ranks ms',
    'alone/ranks',
    'apart/ranks',
    'exchanges',
    'sent B',
  ];
  return renderTable(
    headers.map((header, c) => ({ header, align: c < 3 ? 'left' : 'right' })),
    rows.map((row) => [
      ...[row.loss, row.from, row.share, `${row.tokens}`],
      ...[row.aloneMs, row.apartMs, row.ranksMs].map((ms) => formatNumber(ms)),
      ...[row.aloneMs, row.apartMs].map((ms) => formatRatio(ms / row.ranksMs)),
      ...[`${row.exchanges}`, formatNumber(row.bytesPerToken)],
    ]),
  );
}
