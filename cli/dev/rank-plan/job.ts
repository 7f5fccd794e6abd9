// A job of a thousand ranks: what its losses tell each other (spec section 12), simulated, as the table of docs/ranks.md.
import { type Holding, type Network, type Outcome, simulate } from './network.js';
import { byNode, doubling, eachToAll, type Pattern, ring, tree } from './patterns.js';

/** All ranks at once, each in the group that `groupOf` puts it in; every rank must end with the numbers of its group. */
export function allGather(
  network: Network,
  bytes: number,
  pattern: Pattern,
  groupOf: (rank: number) => number = () => 0,
): Outcome {
  const groups = new Map<number, number[]>();
  const ranks = Array.from({ length: network.ranks }, (_, r) => r);
  for (const r of ranks) groups.set(groupOf(r), [...(groups.get(groupOf(r)) ?? []), r]);
  const held = ranks.map((r): Holding => new Map([[r, numberOf(r)]]));
  const programs = ranks.map((r) => {
    const group = groups.get(groupOf(r))!;
    return pattern(group, group.indexOf(r), held[r]);
  });
  const outcome = simulate(network, bytes, programs);
  for (const r of ranks) {
    const group = groups.get(groupOf(r))!;
    const whole = held[r].size === group.length && group.every((owner) => held[r].get(owner) === numberOf(owner));
    if (!whole) throw new Error(`rank ${r} ends with other numbers than those of its group`);
  }
  return outcome;
}

/** What a rank gives. */
const numberOf = (rank: number) => Math.sin(rank + 1);

const GB = 1e9;

/** 128 nodes of 8 ranks. Memory of the host: 10 GB/s for each rank. One network card to a node, of 400 Gbit/s. */
export const NETWORK: Network = {
  ranks: 1024,
  perNode: 8,
  inNode: { latency: 0.5e-6, gap: 0.2e-6, perByte: 1 / (10 * GB) },
  between: { latency: 3e-6, gap: 0.3e-6, perByte: 1 / (50 * GB) },
};

const PROMPTS = 512;
const ANSWERS = 16;
const LENGTH = 4096; // tokens of an answer
const VOCAB = 152_064;
const WIDTH = 4096; // of hidden states
const HBM = 3350 * GB; // bytes a second

const sequences = PROMPTS * ANSWERS;
const tokens = sequences * LENGTH;
const nodes = NETWORK.ranks / NETWORK.perNode;

/** Float64 numbers, and the word before them that says all is well. */
const told = (numbers: number) => 8 * (numbers + 1);
const batchFacts = (ranks: number) => told(6 + (2 * sequences) / ranks); // with rewards and ids of groups

interface Exchange {
  readonly what: string;
  readonly bytes: number; // of each rank
  readonly ranks: string;
  readonly groupOf: (rank: number) => number;
}

const all = { ranks: 'all 1024', groupOf: () => 0 };
const across = { ranks: '128 nodes, 8 at once', groupOf: (rank: number) => rank % NETWORK.perNode };
const within = { ranks: 'the 8 of a node', groupOf: (rank: number) => Math.floor(rank / NETWORK.perNode) };
/** Eight neighbouring nodes, of each the ranks at one place. */
const spread = {
  ranks: '8, on 8 nodes',
  groupOf: (rank: number) => Math.floor(rank / 64) * NETWORK.perNode + (rank % NETWORK.perNode),
};

const EXCHANGES: readonly Exchange[] = [
  { what: '`data`: rewards and groups', bytes: batchFacts(NETWORK.ranks), ...all },
  { what: '`data`: entropies of all tokens', bytes: told(tokens / NETWORK.ranks), ...all },
  { what: '`data`: rewards and groups', bytes: batchFacts(nodes), ...across },
  { what: '`data`: entropies of all tokens', bytes: told(tokens / nodes), ...across },
  { what: '`sequence`: 4 numbers of each token', bytes: told((4 * tokens) / NETWORK.ranks), ...within },
  { what: '`vocab`: 2 numbers of each token', bytes: told((2 * tokens) / nodes), ...within },
  { what: '`vocab`: 2 numbers of each token', bytes: told((2 * tokens) / nodes), ...spread },
  { what: '`vocab`: `gradHidden`', bytes: told((WIDTH * tokens) / nodes), ...within },
];

const HEADER = [
  '| exchange | ranks | bytes of each | each to all | ring | doubling | tree | each to all, by node | doubling, by node |',
  '|---|---|--:|--:|--:|--:|--:|--:|--:|',
];

/** The table, and what the loss itself takes. */
export function planTable(): string {
  const rows = EXCHANGES.map(({ what, bytes, ranks, groupOf }) => {
    const time = (pattern: Pattern) => duration(allGather(NETWORK, bytes, pattern, groupOf).seconds);
    const flat = [eachToAll, ring, doubling, tree].map(time);
    const within = (pattern: Pattern) => (ranks === all.ranks ? time(byNode(NETWORK.perNode, pattern)) : '');
    return `| ${[what, ranks, size(bytes), ...flat, within(eachToAll), within(doubling)].join(' | ')} |`;
  });
  const logits = (2 * tokens * VOCAB) / NETWORK.ranks;
  const passes = duration((3 * logits) / HBM);
  const own = `A rank has ${size(logits)} of logits in bf16: read twice and written once, ${passes} at 3.35 TB/s.`;
  return [...HEADER, ...rows, '', own].join('\n');
}

/** Three digits, in the unit that fits. */
const scaled = (value: number, units: readonly (readonly [number, string])[]) => {
  const [unit, name] = units.find(([least]) => value >= least) ?? units[units.length - 1];
  return `${Number((value / unit).toPrecision(3))} ${name}`;
};

const duration = (seconds: number) =>
  scaled(seconds, [
    [1, 's'],
    [1e-3, 'ms'],
    [1e-6, 'µs'],
  ]);

const size = (bytes: number) =>
  scaled(bytes, [
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
    [1, 'B'],
  ]);
