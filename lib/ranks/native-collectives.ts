// Ranks that the addon connects, over MPI or NCCL: what both make of sums and lists of numbers, and of an end.
import { RlvrError } from '../errors.js';
import { newArray } from '../memory.js';
import { Collectives, type Exchange, type Operation } from './collectives.js';
import { type Announcement, CALLS, otherRank } from './meeting.js';

const MOST = 2 ** 31 - 1; // MPI counts in ints

/** A sum or maximum over the ranks. */
export interface ReduceCall {
  values: Float64Array;
  count: number;
  maximum: boolean;
  out: Float64Array;
}

/** A gathering of every rank's numbers. */
export interface GatherCall {
  values: Float64Array;
  counts: Int32Array; // of every rank
  out: Float64Array; // of all of them
}

/** The addon's calls; asynchronous ones return nothing where all is done already. What goes wrong there is thrown as an Error. */
export interface NativeCalls {
  reduce(args: ReduceCall): void;
  reduceAsync(args: ReduceCall): Promise<void> | undefined;
  gather(args: GatherCall): void;
  gatherAsync(args: GatherCall): Promise<void> | undefined;
}

/** What a call waits for, in both forms. */
export interface NativeStep {
  name: string;
  now(): void;
  later(): Promise<void> | undefined;
}

/** A communicator of the addon's. */
export abstract class NativeCollectives extends Collectives<NativeStep> {
  readonly rank: number;
  readonly size: number;
  readonly #calls: NativeCalls;
  readonly #library: string; // for messages
  #closed = false;
  #broken: RlvrError | undefined; // why no call can work any more

  protected constructor([rank, size]: readonly [rank: number, size: number], calls: NativeCalls, library: string) {
    super();
    this.rank = rank;
    this.size = size;
    this.#calls = calls;
    this.#library = library;
  }

  close(): void {
    if (this.#closed) return;
    this.atOnce('close', this.#close());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    await this.inTurn('close', this.#close());
  }

  *#close(): Exchange<NativeStep, void> {
    let together = false;
    try {
      if (this.#broken === undefined) {
        const met = yield* this.announce({ call: 'close', length: 0 });
        together = met.every(({ call }) => call === 'close');
      }
    } finally {
      this.#closed = true;
      yield* this.release(together);
    }
  }

  /** Lets the native communicator go; `together`: all ranks do. */
  protected abstract release(together: boolean): Exchange<NativeStep, void>;

  protected *announce({ call, length }: Announcement): Exchange<NativeStep, Announcement[]> {
    if (this.#broken) throw this.#broken;
    const args = this.announcement({ call, length });
    yield this.#gathering(args);
    const { out } = args;
    const met = Array.from({ length: this.size }, (_, r) => ({ call: CALLS[out[2 * r]], length: out[2 * r + 1] }));
    const gone = met.findIndex((other) => other.call === 'close');
    if (gone !== -1) this.#broken = otherRank(gone, this.size, 'was closed');
    return met;
  }

  /** The numbers by which the others hear what this rank is about to do. */
  protected announcement({ call, length }: Announcement): GatherCall {
    const values = Float64Array.of(CALLS.indexOf(call), length);
    return { values, counts: new Int32Array(this.size).fill(2), out: new Float64Array(2 * this.size) };
  }

  #gathering(args: GatherCall): NativeStep {
    return { name: 'gather', now: () => this.#calls.gather(args), later: () => this.#calls.gatherAsync(args) };
  }

  protected *combine(values: Float64Array, operation: Operation): Exchange<NativeStep, void> {
    const args = { values, count: checkCount(values.length), maximum: operation === 'max', out: values };
    yield { name: 'reduce', now: () => this.#calls.reduce(args), later: () => this.#calls.reduceAsync(args) };
  }

  protected *collect(values: Float64Array, lengths: readonly number[]): Exchange<NativeStep, Float64Array[]> {
    const total = checkCount(lengths.reduce((sum, length) => sum + length));
    const out = newArray('values', Float64Array, total);
    yield this.#gathering({ values, counts: Int32Array.from(lengths), out });
    let end = 0;
    return lengths.map((length) => {
      end += length;
      return out.subarray(end - length, end);
    });
  }

  protected async wait({ name, later }: NativeStep): Promise<void> {
    try {
      await later();
    } catch (error) {
      throw this.#fail(name, error);
    }
  }

  protected waitSync({ name, now }: NativeStep): void {
    this.reported(name, now);
  }

  /** What a native call returns; what it reports breaks the communicator. */
  protected reported<Result>(name: string, call: () => Result): Result {
    try {
      return call();
    } catch (error) {
      throw this.#fail(name, error);
    }
  }

  #fail(name: string, error: unknown): RlvrError {
    const message = `${name} on rank ${this.rank}: ${this.#library} reported ${(error as Error).message}`;
    this.#broken = new RlvrError('ERR_RANK', message, { cause: error });
    return this.#broken;
  }

  protected checkOpen(name: string, _blocking: boolean): void {
    if (this.#closed) {
      throw new RlvrError('ERR_DISPOSED', `${name}: expected an open communicator, got a closed one`);
    }
    if (this.#broken && name !== 'close') throw this.#broken;
  }

  /** Whether a call is in progress. */
  get waits(): boolean {
    return this.pending > 0;
  }

  /** At the end of the process: begins to close, without waiting. */
  beginToClose(): void {
    if (this.#broken !== undefined) return;
    try {
      void this.#calls.gatherAsync(this.announcement({ call: 'close', length: 0 }));
    } catch {
      // The others are to be closed as well, and nobody is there any more to hear of it.
    }
  }
}

function checkCount(count: number): number {
  if (count <= MOST) return count;
  throw new RlvrError('ERR_RANGE', `values: expected at most ${MOST} numbers at a time, got ${count}`);
}
