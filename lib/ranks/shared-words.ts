// The memory that the ranks of one process share: a few words by which they agree, and of each rank two slots for numbers.
//
// A round: every rank fills its slot and posts the round's number, then waits until all have, and reads every slot. Rounds use the two
// slots in turn. A rank fills a slot again two rounds later, when all have posted the round between, so all are through with the first.
import { allocated } from '../memory.js';

/** Numbers that go into a slot at a time. */
export const SLOT = 4096;

const TAG = 0x726c7672; // tells this memory from any other
const WORDS = { tag: 0, size: 1, signal: 2, ofRanks: 4 };

/** Views of that memory. */
export class SharedWords {
  readonly memory: SharedArrayBuffer;
  readonly size: number;
  /** Changes, and wakes who waits, whenever something happens that somebody may wait for. */
  readonly signal: Int32Array;
  /** The last round that each rank posted. */
  readonly posted: Int32Array;
  /** Set for ranks that make no more calls. */
  readonly closed: Int32Array;
  /** Set for ranks that a thread has opened. */
  readonly opened: Int32Array;
  readonly #slots: Float64Array;

  /** The views of memory that {@link create} made; undefined for other memory. */
  static of(memory: SharedArrayBuffer): SharedWords | undefined {
    if (memory.byteLength < bytesFor(1)) return undefined;
    const [tag, size] = new Int32Array(memory, 0, 2);
    return tag === TAG && size > 0 && memory.byteLength === bytesFor(size) ? new SharedWords(memory, size) : undefined;
  }

  static create(size: number): SharedWords {
    const memory = allocated('size', size, () => new SharedArrayBuffer(bytesFor(size)));
    const words = new Int32Array(memory);
    words[WORDS.tag] = TAG;
    words[WORDS.size] = size;
    return new SharedWords(memory, size);
  }

  private constructor(memory: SharedArrayBuffer, size: number) {
    const ofRanks = (at: number) => new Int32Array(memory, 4 * (WORDS.ofRanks + at * size), size);
    this.memory = memory;
    this.size = size;
    this.signal = new Int32Array(memory, 4 * WORDS.signal, 1);
    this.posted = ofRanks(0);
    this.closed = ofRanks(1);
    this.opened = ofRanks(2);
    this.#slots = new Float64Array(memory, headerBytes(size));
  }

  /** Where a rank's numbers of a round are. */
  slot(round: number, rank: number): Float64Array {
    const begin = ((round & 1) * this.size + rank) * SLOT;
    return this.#slots.subarray(begin, begin + SLOT);
  }

  /** Wakes everybody who waits. */
  wake(): void {
    Atomics.add(this.signal, 0, 1);
    Atomics.notify(this.signal, 0);
  }
}

function headerBytes(size: number): number {
  return 8 * Math.ceil((4 * (WORDS.ofRanks + 3 * size)) / 8);
}

function bytesFor(size: number): number {
  return headerBytes(size) + 8 * 2 * size * SLOT;
}
