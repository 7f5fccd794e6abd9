import type { NativeGather, NativeMpi, NativeReduce } from '../backend/addon.js';
import { RlvrError } from '../errors.js';
import { newArray } from '../memory.js';
import { Collectives, type Exchange, type Operation } from '../ranks/collectives.js';
import type { Communicator } from '../ranks/communicator.js';
import { type Announcement, CALLS, otherRank } from '../ranks/meeting.js';
import { finiteNumber } from '../validate.js';
import type { MpiLibrary } from './libraries.js';

const MOST = 2 ** 31 - 1; // MPI counts in ints

/** One of several processes that MPI connects; `openMpi` makes them. */
export interface MpiCommunicator extends Communicator {
  /** The MPI behind it. */
  readonly library: MpiLibrary;
  /**
   * A communicator of the ranks that give the same `color`, a whole number from 0 on, in the order of `key` (default: of their ranks
   * here). All ranks call it; it blocks until they do.
   *
   * @throws RlvrError `ERR_RANGE`, `ERR_RANK`, `ERR_DISPOSED`.
   */
  split(color: number, key?: number): MpiCommunicator;
  /**
   * Ends this communicator. All ranks call it; it blocks until they do, and a rank that makes another call instead gets `ERR_RANK`
   * there. With the last open communicator MPI itself ends, if `openMpi` started it, and cannot be started again.
   *
   * @throws RlvrError `ERR_RANK` while calls are in progress.
   */
  close(): void;
  /** As `close()`, for `using` declarations. */
  [Symbol.dispose](): void;
  /** As `close()`, without blocking and after the calls in progress, for `await using` declarations. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a call waits for. */
type Step = { name: 'reduce'; args: NativeReduce } | { name: 'gather'; args: NativeGather };

/** Communicators that were not closed, in the order in which they were made. */
const open = new Set<Ranks>();
let ours = false; // whether we started MPI

/** A communicator of the addon's. `starts`: MPI was started for it. */
export class Ranks extends Collectives<Step> implements MpiCommunicator {
  readonly rank: number;
  readonly size: number;
  readonly library: MpiLibrary;
  readonly #native: NativeMpi;
  readonly #number: number;
  #closed = false;
  #broken: RlvrError | undefined; // why no call can work any more

  constructor(native: NativeMpi, library: MpiLibrary, number: number, starts: boolean) {
    super();
    [this.rank, this.size] = native.place({ communicator: number });
    this.library = library;
    this.#native = native;
    this.#number = number;
    ours ||= starts;
    open.add(this);
    endWithProcess(native);
  }

  split(color: number, key: number = this.rank): MpiCommunicator {
    return this.atOnce(
      'split',
      this.orRefused(() => this.#split(color, key)),
    );
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

  #split(color: number, key: number): Exchange<Step, MpiCommunicator> {
    const args = {
      communicator: this.#number,
      color: finiteNumber('color', color, { min: 0, max: MOST, integer: true }),
      key: finiteNumber('key', key, { min: -MOST, max: MOST, integer: true }),
    };
    const self = this;
    return (function* () {
      yield* self.meet({ call: 'split', length: 0 });
      const part = self.#reported('split', () => self.#native.split(args));
      return new Ranks(self.#native, self.library, part, false);
    })();
  }

  *#close(): Exchange<Step, void> {
    let together = false;
    try {
      if (this.#broken === undefined) {
        const met = yield* this.announce({ call: 'close', length: 0 });
        together = met.every(({ call }) => call === 'close');
      }
    } finally {
      this.#release(together);
    }
    if (open.size === 0 && ours) this.#reported('close', () => this.#native.finalize());
  }

  #release(together: boolean): void {
    this.#closed = true;
    open.delete(this);
    this.#native.release({ communicator: this.#number, together });
  }

  protected *announce({ call, length }: Announcement): Exchange<Step, Announcement[]> {
    if (this.#broken) throw this.#broken;
    const step = this.#announcement({ call, length });
    yield step;
    const { out } = step.args;
    const met = Array.from({ length: this.size }, (_, r) => ({ call: CALLS[out[2 * r]], length: out[2 * r + 1] }));
    const gone = met.findIndex((other) => other.call === 'close');
    if (gone !== -1) this.#broken = otherRank(gone, this.size, 'was closed');
    return met;
  }

  #announcement({ call, length }: Announcement): Step & { name: 'gather' } {
    const values = Float64Array.of(CALLS.indexOf(call), length);
    const counts = new Int32Array(this.size).fill(2);
    return {
      name: 'gather',
      args: { communicator: this.#number, values, counts, out: new Float64Array(2 * this.size) },
    };
  }

  protected *combine(values: Float64Array, operation: Operation): Exchange<Step, void> {
    const count = checkCount(values.length);
    const args = { communicator: this.#number, values, count, maximum: operation === 'max', out: values };
    yield { name: 'reduce', args };
  }

  protected *collect(values: Float64Array, lengths: readonly number[]): Exchange<Step, Float64Array[]> {
    const total = checkCount(lengths.reduce((sum, length) => sum + length));
    const out = newArray('values', Float64Array, total);
    yield { name: 'gather', args: { communicator: this.#number, values, counts: Int32Array.from(lengths), out } };
    let end = 0;
    return lengths.map((length) => {
      end += length;
      return out.slice(end - length, end);
    });
  }

  protected async wait(step: Step): Promise<void> {
    const { name } = step;
    try {
      await (name === 'reduce' ? this.#native.reduceAsync(step.args) : this.#native.gatherAsync(step.args));
    } catch (error) {
      throw this.#fail(name, error);
    }
  }

  protected waitSync(step: Step): void {
    const { name, args } = step;
    this.#reported(name, () => (name === 'reduce' ? this.#native.reduce(args) : this.#native.gather(args)));
  }

  #reported<Result>(name: string, call: () => Result): Result {
    try {
      return call();
    } catch (error) {
      throw this.#fail(name, error);
    }
  }

  #fail(name: string, error: unknown): RlvrError {
    const message = `${name} on rank ${this.rank}: MPI reported ${(error as Error).message}`;
    this.#broken = new RlvrError('ERR_RANK', message, { cause: error });
    return this.#broken;
  }

  protected checkOpen(name: string): void {
    if (this.#closed) {
      throw new RlvrError('ERR_DISPOSED', `${name}: expected an open communicator, got a closed one`);
    }
    if (this.#broken && name !== 'close') throw this.#broken;
  }

  /** Whether a call is in progress, which nothing can end. */
  get waits(): boolean {
    return this.pending > 0;
  }

  /** At the end of the process: begins to close, without waiting. */
  beginToClose(): void {
    if (this.#broken === undefined)
      void this.#native.gatherAsync(this.#announcement({ call: 'close', length: 0 }).args);
  }

  /** What {@link beginToClose} began is done. */
  endClosed(): void {
    this.#release(false);
  }
}

function checkCount(count: number): number {
  if (count <= MOST) return count;
  throw new RlvrError('ERR_RANGE', `values: expected at most ${MOST} numbers at a time, got ${count}`);
}

let watchesEnd = false;

/**
 * A process that ends well closes what is open, all at once: other ranks may be anywhere. Where it ends badly, or in the middle of a
 * call, the addon has MPI end all ranks (native/mpi/process.cpp), after the reason was printed.
 */
function endWithProcess(native: NativeMpi): void {
  if (watchesEnd) return;
  watchesEnd = true;
  process.once('exit', (code) => {
    native.exiting({ code: code || 1 });
    const all = [...open];
    if (code !== 0 || all.some((each) => each.waits)) return;
    for (const each of all) each.beginToClose();
    native.drain();
    for (const each of all) each.endClosed();
    if (all.length > 0 && ours) native.finalize();
  });
}
