// Threads of the wasm backend. Each has an instance of its own, in a memory that the calling thread sees too: the calling thread copies a
// block of rows into it, works on another one meanwhile, and copies out what came of it. So no two threads ever work in one memory, and
// arrays may be of any kind. Where threads do not start, or one does not answer, the calling thread does the work.
import { setting, startThread, threadsAtOnce } from '../platform.js';
import type { WasmCall, WasmKernel } from './wasm-call.js';
import type { Engine, SharedParts, WasmModule } from './wasm-module.js';
import { WasmViews } from './wasm-views.js';

/** More threads than this would wait for the calling one, which copies for all of them. */
const MOST_THREADS = 8;
const SLOT_BYTES = 2 ** 22; // a block of rows and its gradient, and more
/** Blocks that a thread has at a time. What was written a while ago has left the cache of the calling core, from which another reads slowly. */
const SLOTS = 3;
const PATIENCE = 2000; // milliseconds, of waiting for a block that takes about one

/**
 * The words by which two threads agree: of each slot its state, the kernel that is to run, the list of its arguments and the address of the
 * slot's memory; then whether the thread is ready. It works on the slots in turn: while it is at one, others are filled.
 */
const WORDS = { kernel: 1, list: 2, address: 3, ofSlot: 4, ready: 4 * SLOTS, FREE: 0, GIVEN: 1, DONE: 2, FAILED: 3 };

/** What a thread is given. */
interface Duty extends SharedParts {
  control: Int32Array;
  words: typeof WORDS;
  kernels: readonly string[];
  bytes: number; // of memory, for each slot
}

/** What a thread runs. It uses nothing from outside, see `startThread`. */
function work({ module, memory, control, words, kernels, bytes }: Duty): void {
  const { kernel, list, address, ofSlot, ready, FREE, GIVEN, DONE, FAILED } = words;
  const { Instance } = (globalThis as unknown as { WebAssembly: Engine }).WebAssembly;
  const exports = new Instance(module, { env: { memory } }).exports as Record<string, (value: number) => number>;
  for (let slot = 0; slot < ready; slot += ofSlot) {
    control[slot + address] = exports.allocate(bytes);
    if (control[slot + address] === 0) return;
  }
  Atomics.store(control, ready, 1);
  for (let slot = 0; ; slot = (slot + ofSlot) % ready) {
    for (let state = FREE; state !== GIVEN; state = Atomics.load(control, slot)) Atomics.wait(control, slot, state);
    let outcome = DONE;
    try {
      exports[kernels[control[slot + kernel]]](control[slot + list]);
    } catch {
      outcome = FAILED;
    }
    Atomics.store(control, slot, outcome);
    Atomics.notify(control, slot);
    if (outcome === FAILED) return;
  }
}

const KERNELS = [
  'tokenLogProbsForward',
  'tokenLogProbsBackward',
  'tokenLogProbsOnePass',
  'sampleTokens',
  'sampleTokensKept',
] as const satisfies WasmKernel[];

/** Kernels that threads know. */
export type ThreadKernel = (typeof KERNELS)[number];

/** Work in one memory: what is called there, and what to do when its results are in their arrays. */
export interface Block {
  call: WasmCall;
  kernel: ThreadKernel;
  finish?(): void;
}

/** A block that a thread was given. */
export class Given {
  readonly begin: number; // rows
  readonly end: number;
  #thread: Thread;
  #slot: number;
  #block: Block;

  constructor(thread: Thread, slot: number, block: Block, begin: number, end: number) {
    this.#thread = thread;
    this.#slot = slot;
    this.#block = block;
    this.begin = begin;
    this.end = end;
  }

  /** Whether the thread is through with it, or has had its time. */
  isOver(): boolean {
    return this.#thread.isLost || this.#thread.stateOf(this.#slot) !== WORDS.GIVEN;
  }

  /** Brings its results to where they belong; false if there are none. */
  collect(): boolean {
    if (this.#thread.isLost || this.#thread.stateOf(this.#slot) === WORDS.FAILED) {
      this.#thread.lose();
      return false;
    }
    this.#block.call.copyOut();
    this.#thread.free(this.#slot);
    this.#block.finish?.();
    return true;
  }

  /** Waits for a moment. */
  wait(): void {
    this.#thread.waitFor(this.#slot);
  }

  /** Nobody wants its results. */
  abandon(): void {
    this.#thread.abandon(this.#slot);
  }
}

let taken = 0; // blocks

/** How many blocks other threads have taken so far. */
export function blocksTaken(): number {
  return taken;
}

class Thread {
  readonly views: WasmViews;
  isLost = false;
  #control = new Int32Array(new SharedArrayBuffer((WORDS.ready + 1) * Int32Array.BYTES_PER_ELEMENT));
  #abandoned = new Set<number>();
  #next = 0; // slot
  #waited = 0; // milliseconds

  constructor(parts: SharedParts) {
    this.views = new WasmViews(parts.memory);
    Atomics.wait(this.#control, WORDS.ready, 1, 0); // throws where this thread must not wait
    const own = { control: this.#control, words: WORDS, kernels: KERNELS, bytes: SLOT_BYTES };
    const duty: Duty = { ...parts, ...own };
    startThread(work, duty, () => this.lose());
  }

  /** Takes a block of rows, unless it has enough to do, or is not there yet, or the block is too large. */
  take(begin: number, end: number, prepare: (memory: WasmViews) => Block): Given | undefined {
    const slot = this.#next;
    if (this.isLost || Atomics.load(this.#control, WORDS.ready) === 0 || !this.#isFree(slot)) return undefined;
    const block = prepare(this.views);
    if (block.call.bytes > SLOT_BYTES) return undefined;
    const control = this.#control;
    control[slot + WORDS.list] = block.call.copyIn(control[slot + WORDS.address]);
    control[slot + WORDS.kernel] = KERNELS.indexOf(block.kernel);
    Atomics.store(control, slot, WORDS.GIVEN);
    Atomics.notify(control, slot);
    this.#next = (slot + WORDS.ofSlot) % WORDS.ready;
    taken++;
    return new Given(this, slot, block, begin, end);
  }

  #isFree(slot: number): boolean {
    const state = this.stateOf(slot);
    if (state === WORDS.FAILED) this.lose();
    if (state !== WORDS.DONE) return state === WORDS.FREE;
    return this.#abandoned.delete(slot);
  }

  stateOf(slot: number): number {
    return Atomics.load(this.#control, slot);
  }

  free(slot: number): void {
    Atomics.store(this.#control, slot, WORDS.FREE);
  }

  abandon(slot: number): void {
    this.#abandoned.add(slot);
  }

  waitFor(slot: number): void {
    if (Atomics.wait(this.#control, slot, WORDS.GIVEN, 1) !== 'timed-out') this.#waited = 0;
    else if (++this.#waited > PATIENCE) this.lose();
  }

  /** Gives it nothing any more. What it may still be at is in its memory only. */
  lose(): void {
    this.isLost = true;
  }
}

/** The threads besides the calling one, of all calls. */
export class Threads {
  readonly count: number; // with the calling one
  #module: WasmModule;
  #started: Thread[] | undefined;

  constructor(module: WasmModule) {
    this.#module = module;
    this.count = Math.min(Number(setting('RLVR_THREADS')) || threadsAtOnce(), MOST_THREADS);
  }

  /** Those that can take blocks; starts them. */
  get others(): readonly Thread[] {
    this.#started ??= this.#start();
    return this.#started;
  }

  #start(): Thread[] {
    const threads: Thread[] = [];
    try {
      while (threads.length < this.count - 1) threads.push(new Thread(this.#module.share(SLOTS * SLOT_BYTES)));
    } catch {} // as many as there can be
    return threads;
  }
}
