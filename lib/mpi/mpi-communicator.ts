import type { NativeMpi } from '../backend/addon.js';
import type { Exchange } from '../ranks/collectives.js';
import type { Communicator } from '../ranks/communicator.js';
import { type NativeCalls, NativeCollectives, type NativeStep } from '../ranks/native-collectives.js';
import { finiteNumber } from '../validate.js';
import type { MpiLibrary } from './libraries.js';

const MOST = 2 ** 31 - 1; // an int

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

/** Communicators that were not closed, in the order in which they were made. */
const open = new Set<Ranks>();
let ours = false; // whether we started MPI

/** A communicator of the addon's. `starts`: MPI was started for it. */
export class Ranks extends NativeCollectives implements MpiCommunicator {
  readonly library: MpiLibrary;
  readonly #native: NativeMpi;
  readonly #number: number;

  constructor(native: NativeMpi, library: MpiLibrary, number: number, starts: boolean) {
    super(native.place({ communicator: number }), callsOf(native, number), 'MPI');
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

  #split(color: number, key: number): Exchange<NativeStep, MpiCommunicator> {
    const args = {
      communicator: this.#number,
      color: finiteNumber('color', color, { min: 0, max: MOST, integer: true }),
      key: finiteNumber('key', key, { min: -MOST, max: MOST, integer: true }),
    };
    const self = this;
    return (function* () {
      yield* self.meet({ call: 'split', length: 0 });
      const part = self.reported('split', () => self.#native.split(args));
      return new Ranks(self.#native, self.library, part, false);
    })();
  }

  protected *release(together: boolean): Exchange<NativeStep, void> {
    this.#forget(together);
    if (open.size === 0 && ours) this.reported('close', () => this.#native.finalize());
  }

  #forget(together: boolean): void {
    open.delete(this);
    this.#native.release({ communicator: this.#number, together });
  }

  /** What {@link beginToClose} began is done. */
  endClosed(): void {
    this.#forget(false);
  }
}

function callsOf(native: NativeMpi, communicator: number): NativeCalls {
  return {
    reduce: (args) => native.reduce({ communicator, ...args }),
    reduceAsync: (args) => native.reduceAsync({ communicator, ...args }),
    gather: (args) => native.gather({ communicator, ...args }),
    gatherAsync: (args) => native.gatherAsync({ communicator, ...args }),
  };
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
