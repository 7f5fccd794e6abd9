import { isMainThread } from 'node:worker_threads';
import type { NativeNccl } from '../backend/addon.js';
import type { Device } from '../cuda/device.js';
import { RlvrError } from '../errors.js';
import type { Exchange } from '../ranks/collectives.js';
import type { Communicator } from '../ranks/communicator.js';
import { addsUpOnDevice, type DeviceSum } from '../ranks/device-sums.js';
import { NativeCollectives, type NativeStep } from '../ranks/native-collectives.js';

/** An NCCL that was opened. */
export interface NcclLibrary {
  /** The name of its file, as it was opened. */
  readonly file: string;
  /** Its version, such as `2.27.3`. */
  readonly version: string;
}

/** One of several ranks with a GPU each, which NCCL connects; `openNccl` makes them. */
export interface NcclCommunicator extends Communicator {
  /** The NCCL behind it. */
  readonly library: NcclLibrary;
  /** The device whose stream everything is enqueued on. */
  readonly device: Device;
  /**
   * Ends this communicator. All ranks call it; it blocks until they do, and a rank that makes another call instead gets `ERR_RANK`
   * there. A communicator of another library stays open for its owner, a device that was given for its own.
   *
   * @throws RlvrError `ERR_RANK` while calls are in progress, and where other ranks are on this thread: `await using` closes those.
   */
  close(): void;
  /** As `close()`, for `using` declarations. */
  [Symbol.dispose](): void;
  /** As `close()`, without blocking and after the calls in progress, for `await using` declarations. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What an open communicator consists of. */
export interface Opened {
  native: NativeNccl;
  library: NcclLibrary;
  device: Device;
  ownsDevice: boolean;
  place: readonly [rank: number, size: number];
  group: number; // the same number on all of its ranks, and on no others
}

/** Communicators of this thread that were not closed. */
const open = new Set<Ranks>();
/** The ranks of this thread, by their groups, also those that are being opened. */
const here = new Map<number, Set<number>>();

/** Takes note of a rank on this thread. */
export function joinThread(group: number, rank: number): void {
  here.set(group, (here.get(group) ?? new Set()).add(rank));
}

/** Forgets it. */
export function leaveThread(group: number, rank: number): void {
  here.get(group)?.delete(rank);
  if (here.get(group)?.size === 0) here.delete(group);
}

export class Ranks extends NativeCollectives implements NcclCommunicator {
  readonly library: NcclLibrary;
  readonly device: Device;
  readonly #native: NativeNccl;
  readonly #ownsDevice: boolean;
  readonly #group: number;

  constructor({ native, library, device, ownsDevice, place, group }: Opened) {
    super(place, native, 'NCCL');
    this.library = library;
    this.device = device;
    this.#native = native;
    this.#ownsDevice = ownsDevice;
    this.#group = group;
    open.add(this);
    closeAtEnd();
    addsUpOnDevice(this, {
      device,
      sum: (sum) => this.inTurn('sum', this.#sum(sum)),
      sumSync: (sum) => this.atOnce('sum', this.#sum(sum)),
    });
  }

  *#sum(sum: DeviceSum): Exchange<NativeStep, number> {
    const args = { ...sum, bad: Int32Array.of(-1) };
    yield { name: 'sum', now: () => this.#native.sum(args), later: () => this.#native.sumAsync(args) };
    return args.bad[0];
  }

  protected *release(together: boolean): Exchange<NativeStep, void> {
    open.delete(this);
    leaveThread(this.#group, this.rank);
    const native = this.#native;
    try {
      yield { name: 'close', now: () => native.close({ together }), later: () => native.closeAsync({ together }) };
    } finally {
      native.dispose();
      if (this.#ownsDevice) this.device.dispose();
    }
  }

  protected override checkOpen(name: string, blocking: boolean): void {
    super.checkOpen(name, blocking);
    const other = [...(here.get(this.#group) ?? [])].find((rank) => rank !== this.rank);
    if (!blocking || other === undefined) return;
    const got = `rank ${other} on this one, which would wait for it`;
    throw new RlvrError('ERR_RANK', `${name}: expected the other ranks on threads of their own, got ${got}`);
  }

  /** At the end of the thread: gives up a call in progress, or waits a moment for the others to hear of the end. */
  leave(): void {
    if (!this.waits) this.#native.wait(LAST_WORD);
    this.#native.dispose();
  }
}

const LAST_WORD = 2000; // milliseconds
let watchesEnd = false;

/**
 * A thread or a process that ends tells the other ranks so, all at once: they may be anywhere. Where a process ends badly, its launcher
 * ends the others. Before MPI ends, whose end others may not come to as long as they wait for this rank.
 */
function closeAtEnd(): void {
  if (watchesEnd) return;
  watchesEnd = true;
  process.prependOnceListener('exit', (code) => {
    const quiet = isMainThread && code !== 0;
    for (const each of open) if (!each.waits && !quiet) each.beginToClose();
    for (const each of open) each.leave();
  });
}
