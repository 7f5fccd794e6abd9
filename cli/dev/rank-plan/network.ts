// Ranks on nodes that send each other messages, one event after the other. A message takes a latency, and what it passes through for as long
// as its bytes take: the rank that sends, the one that receives, and between nodes both network cards, which the ranks of a node share. Each
// of these passes on one message after the other.

/** What messages take on one kind of way, in seconds. */
export interface Way {
  readonly latency: number; // α: until the other end has a message of no bytes
  readonly gap: number; // of a rank, for each message that it sends or receives
  readonly perByte: number; // β
}

export interface Network {
  readonly ranks: number;
  readonly perNode: number; // ranks of a node, which are neighbours
  readonly inNode: Way;
  readonly between: Way;
}

/** What a rank holds: whose numbers, and the numbers. */
export type Holding = Map<number, number>;

/** What a rank does next: send all of this, which then stays as it is, or wait for the next message from a rank. */
export type Step = { to: number; parts: Holding } | { from: number };

/** What a rank does, as a generator that is given what it waited for. */
export type Program = Generator<Step, void, Holding>;

interface Rank {
  readonly program: Program;
  readonly inbox: Map<number, Message[]>;
  waitsFor: number | undefined;
}

interface Message {
  readonly arrival: number;
  readonly parts: Holding;
}

/** Until when each of them is taken. */
interface Ports {
  readonly ranksOut: Float64Array;
  readonly ranksIn: Float64Array;
  readonly cardsOut: Float64Array;
  readonly cardsIn: Float64Array;
}

export interface Outcome {
  readonly seconds: number; // until the last rank has ended
  readonly messages: number;
  readonly cardBytes: number; // the most that a node's card sent
}

/** Runs a program on each rank; `bytes` are those of one rank's numbers. */
export function simulate(network: Network, bytes: number, programs: readonly Program[]): Outcome {
  const nodes = Math.ceil(network.ranks / network.perNode);
  const ports: Ports = {
    ranksOut: new Float64Array(network.ranks),
    ranksIn: new Float64Array(network.ranks),
    cardsOut: new Float64Array(nodes),
    cardsIn: new Float64Array(nodes),
  };
  const ranks = programs.map((program): Rank => ({ program, inbox: new Map(), waitsFor: undefined }));
  const cardBytes = new Float64Array(nodes);
  const queue = new Queue();
  for (const [r] of ranks.entries()) queue.add(0, r);
  let [seconds, messages, ended] = [0, 0, 0];
  for (let event = queue.next(); event; event = queue.next()) {
    const { time, rank: r } = event;
    const step = advance(ranks[r], time);
    if (step === undefined) {
      seconds = Math.max(seconds, time);
      ended++;
    } else if ('from' in step) {
      const next = ranks[r].inbox.get(step.from)?.[0];
      ranks[r].waitsFor = step.from;
      if (next) queue.add(Math.max(time, next.arrival), r);
    } else {
      const size = step.parts.size * bytes;
      const { free, arrival } = pass(network, ports, { time, from: r, to: step.to, size });
      if (nodeOf(network, r) !== nodeOf(network, step.to)) cardBytes[nodeOf(network, r)] += size;
      messages++;
      const receiver = ranks[step.to];
      const waiting = receiver.inbox.get(r) ?? [];
      if (waiting.push({ arrival, parts: step.parts }) === 1 && receiver.waitsFor === r) queue.add(arrival, step.to);
      receiver.inbox.set(r, waiting);
      queue.add(free, r);
    }
  }
  if (ended < ranks.length) throw new Error(`${ranks.length - ended} ranks wait for messages that nobody sends`);
  return { seconds, messages, cardBytes: Math.max(...cardBytes) };
}

/** Up to the next step of a rank that has what it waited for, if it did; undefined at its end. */
function advance(rank: Rank, time: number): Step | undefined {
  const { program, inbox, waitsFor } = rank;
  let given: Holding = new Map();
  if (waitsFor !== undefined) {
    const { arrival, parts } = inbox.get(waitsFor)!.shift()!;
    if (arrival > time) throw new Error('a message was read before it arrived');
    given = parts;
    rank.waitsFor = undefined;
  }
  const { done, value } = program.next(given);
  return done === true ? undefined : value;
}

interface Sent {
  time: number;
  from: number;
  to: number;
  size: number;
}

/** When the sender may go on, and when the message is there. */
function pass(network: Network, ports: Ports, { time, from, to, size }: Sent): { free: number; arrival: number } {
  const { ranksOut, ranksIn, cardsOut, cardsIn } = ports;
  const [source, target] = [nodeOf(network, from), nodeOf(network, to)];
  const near = source === target;
  const { latency, gap, perByte } = near ? network.inNode : network.between;
  const taken = size * perByte; // of a card; a rank takes the gap as well
  const start = Math.max(time, ranksOut[from], near ? 0 : cardsOut[source]);
  ranksOut[from] = start + gap + taken;
  const begin = Math.max(start + latency, ranksIn[to], near ? 0 : cardsIn[target]);
  ranksIn[to] = begin + gap + taken;
  if (!near) {
    cardsOut[source] = start + taken;
    cardsIn[target] = begin + taken;
  }
  return { free: ranksOut[from], arrival: ranksIn[to] };
}

const nodeOf = ({ perNode }: Network, rank: number) => Math.floor(rank / perNode);

interface Event {
  readonly time: number;
  readonly rank: number;
  readonly number: number; // of equal times, the one added first comes first
}

const isBefore = (a: Event, b: Event) => a.time < b.time || (a.time === b.time && a.number < b.number);

/** Events by their times: a binary heap. */
class Queue {
  readonly #heap: Event[] = [];
  #added = 0;

  add(time: number, rank: number): void {
    const heap = this.#heap;
    const event = { time, rank, number: this.#added++ };
    let at = heap.length;
    for (let above = (at - 1) >> 1; at > 0 && isBefore(event, heap[above]); above = (at - 1) >> 1) {
      heap[at] = heap[above];
      at = above;
    }
    heap[at] = event;
  }

  next(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return first;
    let at = 0;
    for (let below = 1; below < heap.length; below = 2 * at + 1) {
      if (below + 1 < heap.length && isBefore(heap[below + 1], heap[below])) below++;
      if (!isBefore(heap[below], last)) break;
      heap[at] = heap[below];
      at = below;
    }
    heap[at] = last;
    return first;
  }
}
