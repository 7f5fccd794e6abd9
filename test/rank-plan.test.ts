// The simulation behind the plan for a thousand ranks: costs that can be written down, and the table of the document.
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allGather } from '../cli/dev/rank-plan/job.js';
import type { Network, Way } from '../cli/dev/rank-plan/network.js';
import { byNode, doubling, eachToAll, type Pattern, ring, tree } from '../cli/dev/rank-plan/patterns.js';
import { problemWithPlan } from '../cli/dev/write-ranks.js';

const way: Way = { latency: 7, gap: 2, perByte: 0.5 };
const slow: Way = { latency: 100, gap: 3, perByte: 2 };
const network = (ranks: number, perNode = ranks): Network => ({ ranks, perNode, inNode: way, between: slow });
const n = 10; // bytes of each rank

describe('without other messages in the way, an all-gather takes', () => {
  const { latency: α, gap: γ, perByte: β } = way;
  const levels = Math.log2;
  test.each<[string, Pattern, number[], (p: number) => number]>([
    ['each to all', eachToAll, [2, 3, 5, 8, 13], (p) => α + (p - 1) * (γ + n * β)],
    ['a ring', ring, [2, 3, 5, 8, 13], (p) => (p - 1) * (α + γ + n * β)],
    ['doubling', doubling, [2, 4, 8, 32], (p) => levels(p) * (α + γ) + (p - 1) * n * β],
    ['a tree', tree, [2, 4, 8, 32], (p) => 2 * levels(p) * (α + γ) + (p - 1 + p * levels(p)) * n * β],
  ])('%s', (_name, pattern, sizes, seconds) => {
    for (const p of sizes) expect(allGather(network(p), n, pattern).seconds).toBeCloseTo(seconds(p), 9);
    expect(allGather(network(1), n, pattern)).toEqual({ seconds: 0, messages: 0, cardBytes: 0 });
  });

  test('on nodes of one rank, what the ways between them take', () => {
    const { latency, gap, perByte } = slow;
    expect(allGather(network(5, 1), n, ring).seconds).toBeCloseTo(4 * (latency + gap + n * perByte), 9);
  });
});

describe('the card of a node', () => {
  test('passes on one message of its ranks after the other', () => {
    for (const perNode of [1, 2, 6]) {
      const { seconds } = allGather(network(2 * perNode, perNode), n, doubling, (rank) => rank % perNode);
      expect(seconds).toBeCloseTo(slow.latency + slow.gap + perNode * n * slow.perByte, 9);
    }
  });

  test('sends what every rank of the node has once, or once for each of them', () => {
    const bytes = (pattern: Pattern) => allGather(network(16, 4), n, pattern).cardBytes;
    expect(bytes(byNode(4, doubling))).toBe(4 * 3 * n);
    expect(bytes(byNode(4, ring))).toBe(4 * 3 * n);
    expect(bytes(doubling)).toBe((4 * 4 + 4 * 8) * n);
    expect(bytes(eachToAll)).toBe(4 * 12 * n);
    expect(bytes(ring)).toBe(15 * n);
  });

  test('by node, an all-gather takes that between nodes and that within', () => {
    const between = 2 * (slow.latency + slow.gap) + 3 * 4 * n * slow.perByte;
    const within = 2 * (way.latency + way.gap) + 3 * 4 * n * way.perByte;
    const { seconds } = allGather(network(16, 4), n, byNode(4, doubling));
    expect(seconds).toBeLessThanOrEqual(between + within + 1e-9);
    expect(seconds).toBeGreaterThan(slow.latency + slow.gap + 3 * 4 * n * slow.perByte + within);
  });
});

test('whatever the ranks and nodes, every rank ends with the numbers of all, in no less time than they take', () => {
  const patterns = [eachToAll, ring, tree, byNode(3, ring), byNode(3, tree)];
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.nat(4), fc.integer({ min: 1, max: 99 }), (nodes, which, bytes) => {
      const { seconds, messages } = allGather(network(3 * nodes, 3), bytes, patterns[which]);
      expect(seconds).toBeGreaterThanOrEqual(way.latency + (3 * nodes - 1) * bytes * way.perByte);
      expect(messages).toBeGreaterThanOrEqual(2 * (3 * nodes - 1));
    }),
    { numRuns: 60 },
  );
});

describe('what is no all-gather is found', () => {
  test('a rank that keeps its numbers to itself', () => {
    const silent: Pattern = function* (group, own) {
      if (own > 0) yield { to: group[0], parts: new Map() };
    };
    expect(() => allGather(network(3), n, silent)).toThrow('rank 0 ends with other numbers than those of its group');
  });

  test('ranks that wait for each other', () => {
    const waiting: Pattern = function* (group, own) {
      yield { from: group[(own + 1) % group.length] };
    };
    expect(() => allGather(network(3), n, waiting)).toThrow('3 ranks wait for messages that nobody sends');
  });
});

test('the table of the document is what the simulation gives', { timeout: 300_000 }, () => {
  expect(problemWithPlan(fileURLToPath(new URL('..', import.meta.url)))).toBeUndefined();
});
