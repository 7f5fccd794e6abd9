import { badArgument, describe, RlvrError } from '../errors.js';
import { newArray } from '../memory.js';
import { atExit } from '../platform.js';
import { finiteNumber, objectArgument } from '../validate.js';
import { Collectives, type Exchange, type Operation } from './collectives.js';
import type { Communicator } from './communicator.js';
import { type Announcement, CALLS, otherRank } from './meeting.js';
import { SharedWords, SLOT } from './shared-words.js';

/** A rank of {@link inProcess} on its way to another thread: what `share()` returns, and a message or `workerData` may carry. */
export interface SharedRank {
  /** Which of the ranks. */
  readonly rank: number;
  /** What all of them share. */
  readonly memory: SharedArrayBuffer;
}

/** One of several ranks in this process; {@link inProcess} makes them. */
export interface InProcessCommunicator extends Communicator {
  /**
   * What another thread opens with {@link inProcess}. From then on the calls of this rank are made there; `close()` still works here.
   *
   * @throws RlvrError `ERR_DISPOSED`; `ERR_RANK` while calls are in progress.
   */
  share(): SharedRank;
  /** Ends this rank: its calls fail from now on, and those of the other ranks with `ERR_RANK` and its number. */
  close(): void;
  /** As `close()`, for `using` declarations. */
  [Symbol.dispose](): void;
}

class Rank extends Collectives<number> implements InProcessCommunicator {
  readonly rank: number;
  readonly size: number;
  readonly #words: SharedWords;
  readonly #here: Set<Rank>; // ranks on this thread
  #shared = false;

  constructor(words: SharedWords, rank: number, here: Set<Rank>) {
    super();
    this.rank = rank;
    this.size = words.size;
    this.#words = words;
    this.#here = here.add(this);
  }

  share(): SharedRank {
    this.#checkNotClosed('share');
    if (this.pending > 0) {
      throw new RlvrError('ERR_RANK', `share: expected no calls in progress, got ${this.pending}`);
    }
    this.#shared = true;
    this.#here.delete(this);
    return { rank: this.rank, memory: this.#words.memory };
  }

  close(): void {
    Atomics.store(this.#words.closed, this.rank, 1);
    this.#words.wake();
    this.#here.delete(this);
    openedHere.delete(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  protected *announce({ call, length }: Announcement): Exchange<number, Announcement[]> {
    const round = yield* this.#round((slot) => {
      slot[0] = CALLS.indexOf(call);
      slot[1] = length;
    });
    return round.map(([code, count]) => ({ call: CALLS[code], length: count }));
  }

  protected *combine(values: Float64Array, operation: Operation): Exchange<number, void> {
    for (let begin = 0; begin < values.length; begin += SLOT) {
      const piece = values.subarray(begin, begin + SLOT);
      const slots = yield* this.#round((slot) => slot.set(piece));
      piece.set(slots[0].subarray(0, piece.length));
      for (const slot of slots.slice(1)) (operation === 'sum' ? add : raise)(piece, slot);
    }
  }

  protected *collect(values: Float64Array, lengths: readonly number[]): Exchange<number, Float64Array[]> {
    const lists = lengths.map((length) => newArray('values', Float64Array, length));
    const longest = Math.max(...lengths);
    for (let begin = 0; begin < longest; begin += SLOT) {
      const slots = yield* this.#round((slot) => slot.set(values.subarray(begin, begin + SLOT)));
      for (const [r, list] of lists.entries()) {
        const piece = list.subarray(begin, begin + SLOT);
        piece.set(slots[r].subarray(0, piece.length));
      }
    }
    return lists;
  }

  /** One round: the slots of all ranks, to be read before the next. */
  *#round(fill: (slot: Float64Array) => void): Exchange<number, Float64Array[]> {
    this.#checkNotClosed('communicator');
    const { posted, closed, signal, size } = this.#words;
    const round = (posted[this.rank] + 1) | 0;
    fill(this.#words.slot(round, this.rank));
    Atomics.store(posted, this.rank, round);
    this.#words.wake();
    const ranks = Array.from({ length: size }, (_, r) => r);
    for (;;) {
      const seen = Atomics.load(signal, 0);
      const late = ranks.filter((r) => ((Atomics.load(posted, r) - round) | 0) < 0);
      if (late.length === 0) return ranks.map((r) => this.#words.slot(round, r));
      this.#checkNotClosed('communicator');
      const gone = late.find((r) => Atomics.load(closed, r) === 1);
      if (gone !== undefined) throw otherRank(gone, size, 'was closed');
      yield seen;
    }
  }

  /** Until the signal is no longer what it was. */
  protected async wait(seen: number): Promise<void> {
    if (typeof Atomics.waitAsync !== 'function') {
      throw new RlvrError('ERR_BACKEND', 'inProcess: expected a runtime with Atomics.waitAsync, got one without');
    }
    const { async, value } = Atomics.waitAsync(this.#words.signal, 0, seen);
    if (!async) return;
    const awake = setInterval(() => undefined, 2 ** 30); // a process does not stay for such a promise alone
    await value;
    clearInterval(awake);
  }

  protected waitSync(seen: number): void {
    try {
      Atomics.wait(this.#words.signal, 0, seen);
    } catch (cause) {
      const message = 'inProcess: expected a thread that may block, got one that may not: use the asynchronous calls';
      throw new RlvrError('ERR_BACKEND', message, { cause });
    }
  }

  protected checkOpen(name: string, blocking: boolean): void {
    this.#checkNotClosed(name);
    if (this.#shared) {
      throw new RlvrError(
        'ERR_RANK',
        `${name}: expected a rank of this thread, got rank ${this.rank}, which was shared`,
      );
    }
    const other = [...this.#here].find((rank) => rank !== this);
    if (!blocking || other === undefined) return;
    const got = `rank ${other.rank} on this one, which would wait forever`;
    throw new RlvrError('ERR_RANK', `${name}: expected the other ranks on threads of their own, got ${got}`);
  }

  #checkNotClosed(name: string): void {
    if (Atomics.load(this.#words.closed, this.rank) === 0) return;
    throw new RlvrError(
      'ERR_DISPOSED',
      `${name}: expected an open communicator, got rank ${this.rank}, which was closed`,
    );
  }
}

function add(sums: Float64Array, values: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += values[i];
}

function raise(maxima: Float64Array, values: Float64Array): void {
  for (let i = 0; i < maxima.length; i++) maxima[i] = Math.max(maxima[i], values[i]);
}

/** Ranks that this thread opened. Where it ends, by an error too, it closes them. */
const openedHere = new Set<Rank>();
let watchesEnd = false;

function closeAtEnd(rank: Rank): void {
  openedHere.add(rank);
  if (watchesEnd) return;
  watchesEnd = true;
  atExit(() => {
    for (const each of openedHere) each.close();
  });
}

function open(shared: SharedRank): InProcessCommunicator {
  const { memory, rank } = objectArgument('shared', shared);
  const words = memory instanceof SharedArrayBuffer ? SharedWords.of(memory) : undefined;
  if (words === undefined) {
    throw badArgument('ERR_DTYPE', 'shared', 'what share() of a communicator returned', describe(shared));
  }
  finiteNumber('shared.rank', rank, { min: 0, max: words.size - 1, integer: true });
  if (Atomics.compareExchange(words.opened, rank, 0, 1) === 1) {
    throw new RlvrError('ERR_RANK', `shared: expected a rank that no thread has opened, got rank ${rank} again`);
  }
  const opened = new Rank(words, rank, new Set());
  closeAtEnd(opened);
  return opened;
}

/**
 * Communicators for `size` ranks in this process: for tests, and for worker threads. All of them may be used on one thread, by
 * asynchronous calls; or a rank goes to a worker with `share()`, is opened there, and can make blocking calls as well.
 *
 * @example
 * ```ts
 * import { inProcess } from 'rlvr-kernels';
 *
 * const ranks = inProcess(2);
 * const sums = await Promise.all(ranks.map((each) => each.allReduce(Float64Array.of(1, each.rank), 'sum')));
 * console.log(sums); // => [ Float64Array(2) [ 2, 1 ], Float64Array(2) [ 2, 1 ] ]
 * ```
 *
 * @throws RlvrError `ERR_RANGE`; `ERR_BACKEND` where there is no shared memory.
 */
export function inProcess(size: number): InProcessCommunicator[];
/**
 * A rank that another thread shared: its calls are made here from now on. It closes when the thread ends by itself or by an error, so
 * that the other ranks do not wait for it; for a worker that may be terminated, close it where it was shared:
 * `worker.once('exit', () => rank.close())`.
 *
 * @example
 * ```ts
 * import { Worker } from 'node:worker_threads';
 * import { inProcess } from 'rlvr-kernels';
 *
 * const [here, there] = inProcess(2);
 * const work = `
 *   const { workerData } = require('node:worker_threads');
 *   const { inProcess } = require('rlvr-kernels');
 *   inProcess(workerData).allReduceSync(Float64Array.of(20), 'sum');
 * `;
 * new Worker(work, { eval: true, workerData: there.share() });
 * console.log(here.allReduceSync(Float64Array.of(1), 'sum')); // => Float64Array(1) [ 21 ]
 * ```
 *
 * @throws RlvrError `ERR_DTYPE`, `ERR_RANGE`; `ERR_RANK` for a rank that was opened before.
 */
export function inProcess(shared: SharedRank): InProcessCommunicator;
export function inProcess(given: number | SharedRank): InProcessCommunicator | InProcessCommunicator[] {
  if (typeof SharedArrayBuffer === 'undefined') {
    throw new RlvrError('ERR_BACKEND', 'inProcess: expected a runtime with SharedArrayBuffer, got one without');
  }
  if (typeof given === 'object') return open(given);
  const words = SharedWords.create(finiteNumber('size', given, { min: 1, max: 1024, integer: true }));
  const here = new Set<Rank>();
  return Array.from({ length: words.size }, (_, rank) => new Rank(words, rank, here));
}
