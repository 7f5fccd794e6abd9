// All-gathers as messages between ranks: each begins with its own numbers and ends with those of all. `group` are the ranks that meet,
// and `held` is what this one, the `own`-th of them, has so far.
import type { Holding, Program } from './network.js';

/** One rank's part of an all-gather. */
export type Pattern = (group: readonly number[], own: number, held: Holding) => Program;

/** Every rank sends its numbers to every other. */
export function* eachToAll(group: readonly number[], own: number, held: Holding): Program {
  const size = group.length;
  const mine: Holding = new Map(held);
  for (let k = 1; k < size; k++) yield { to: group[(own + k) % size], parts: mine };
  for (let k = 1; k < size; k++) add(held, yield { from: group[(own - k + size) % size] });
}

/** Every rank passes on to its right what came from its left. */
export function* ring(group: readonly number[], own: number, held: Holding): Program {
  const size = group.length;
  const [left, right] = [group[(own - 1 + size) % size], group[(own + 1) % size]];
  let parts: Holding = new Map(held);
  for (let k = 1; k < size; k++) {
    yield { to: right, parts };
    parts = yield { from: left };
    add(held, parts);
  }
}

/** Ranks at distances of 1, 2, 4 … exchange all that they have: recursive doubling. */
export function* doubling(group: readonly number[], own: number, held: Holding): Program {
  if (!Number.isInteger(Math.log2(group.length))) throw new Error('expected a power of two of ranks');
  for (let distance = 1; distance < group.length; distance *= 2) {
    const other = group[own ^ distance];
    yield { to: other, parts: new Map(held) };
    add(held, yield { from: other });
  }
}

/** To the first rank along a binomial tree, and back down. */
export function* tree(group: readonly number[], own: number, held: Holding): Program {
  const size = group.length;
  let below = 1; // the distance to the rank above, once all from below are there
  for (; below < size && (own & below) === 0; below *= 2)
    if (own + below < size) add(held, yield { from: group[own + below] });
  if (own > 0) {
    const above = group[own - below];
    yield { to: above, parts: new Map(held) };
    add(held, yield { from: above });
  }
  for (let distance = below / 2; distance >= 1; distance /= 2)
    if (own + distance < size) yield { to: group[own + distance], parts: new Map(held) };
}

/** Between nodes first, each rank with those at its place on the others, then within the node. */
export function byNode(perNode: number, pattern: Pattern): Pattern {
  return function* (group, own, held): Program {
    const [node, place] = [Math.floor(own / perNode), own % perNode];
    const lane = group.filter((_, r) => r % perNode === place);
    yield* pattern(lane, node, held);
    yield* pattern(group.slice(node * perNode, (node + 1) * perNode), place, held);
  };
}

function add(held: Holding, parts: Holding): void {
  for (const [owner, number] of parts) held.set(owner, number);
}
