import { type NativeCuda, nativeCuda } from '../backend/addon.js';
import { cudaCall } from '../backend/cuda.js';
import { Device, nativeDeviceOf } from '../cuda/device.js';
import { openDevice } from '../cuda/open-device.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { namesOf, takeOptions } from '../options.js';
import type { Communicator } from '../ranks/communicator.js';
import { checkWell, communicator, failure, well } from '../run/ranks.js';
import { finiteNumber, objectArgument, optional } from '../validate.js';
import {
  joinThread,
  leaveThread,
  type NcclCommunicator,
  type NcclLibrary,
  type Opened,
  Ranks,
} from './nccl-communicator.js';

/** Options of {@link openNccl}. */
export interface NcclOptions {
  /**
   * Any other communicator of the same ranks (`openMpi`, `inProcess`, your own), by which they find each other: all of them call
   * `openNccl` with it. It is used until the promise settles, and may then be closed.
   */
  via: Communicator;
  /** The GPU of this rank; each rank has another. Default: device 0, opened here and closed with the communicator. */
  device?: Device | undefined;
  /** The file of the NCCL to use, a path or a name that the dynamic loader finds. Default `libnccl.so.2`. */
  library?: string | undefined;
  /**
   * The address of a communicator of another library in this process (an `ncclComm_t`), of the same ranks in the same order, on this
   * device. It is used, never destroyed nor aborted. Its owner makes no calls on it at the same time. Default: a new one.
   */
  comm?: bigint | undefined;
  /** How many milliseconds a call waits for the other ranks, before it fails for good. Default 600,000: ten minutes. */
  timeout?: number | undefined;
}

const NAMES = namesOf<NcclOptions>({ via: true, device: true, library: true, comm: true, timeout: true });
const FILE = 'libnccl.so.2';
const REMEDY =
  'NCCL 2.18 or newer (Debian, Ubuntu: `apt-get install libnccl2` from the NVIDIA repository; `pip install nvidia-nccl-cu13`, ' +
  'whose file `library` names; for the CUDA of the driver)';

/**
 * Connects ranks that have a GPU each over NCCL: the numbers of a loss, and sums of gradients that stay on the devices. Linux only. All
 * ranks of `via` call it, with the same options but for `device` and `comm`.
 *
 * @example
 * ```ts
 * import { openDevice } from 'rlvr-kernels/cuda';
 * import { openMpi } from 'rlvr-kernels/mpi';
 * import { openNccl } from 'rlvr-kernels/nccl';
 *
 * using world = openMpi(); // one process for each GPU of a machine
 * using comm = await openNccl({ via: world, device: openDevice(world.rank) });
 * const [ranks] = await comm.allReduce(Float64Array.of(1), 'sum');
 * console.log(`rank ${comm.rank} of ${ranks}, by NCCL ${comm.library.version}`);
 * ```
 *
 * @throws RlvrError `ERR_BACKEND`, saying what was tried, where there is no NCCL or no CUDA; `ERR_OPTION`, `ERR_DTYPE`, `ERR_RANGE`;
 * `ERR_RANK` for what NCCL reports, and with the error of another rank.
 */
export async function openNccl(options: NcclOptions): Promise<NcclCommunicator> {
  const given = objectArgument('options', options);
  const via = communicator('via', given.via);
  let prepared: Prepared | undefined;
  try {
    const facts = await exchange(via, () => {
      prepared = prepare(takeOptions('openNccl', given, NAMES) as unknown as NcclOptions, via);
      return prepared.facts;
    });
    return new Ranks(await opened(prepared!, facts, via));
  } catch (error) {
    prepared?.native.dispose();
    if (prepared?.ownsDevice) prepared.device.dispose();
    if (error instanceof RlvrError) throw error;
    throw reported(error, prepared?.library);
  }
}

/** What a rank has before it meets the others, and what it tells them of it. */
interface Prepared extends Omit<Opened, 'place' | 'group'> {
  comm: bigint | undefined;
  facts: Float64Array;
}

const ID_AT = 3; // in the facts: behind the group, the version, and whether there is a communicator

function prepare({ device, library: file = FILE, comm, timeout = 600_000 }: NcclOptions, via: Communicator): Prepared {
  if (device !== undefined && !(device instanceof Device))
    throw badArgument('ERR_DTYPE', 'device', 'a Device', describe(device));
  if (typeof file !== 'string' || file === '')
    throw badArgument('ERR_DTYPE', 'library', 'the name of a file', describe(file));
  optional(comm, (address) => {
    if (typeof address !== 'bigint' || address <= 0n || address >= 2n ** 64n)
      throw badArgument('ERR_RANGE', 'comm', 'an address as a bigint', describe(address));
  });
  finiteNumber('timeout', timeout, { min: 1, max: 2 ** 31 - 1, integer: true });
  if (process.platform !== 'linux') throw unavailable(`expected Linux, got ${process.platform}`);
  const cuda = nativeCuda();
  if ('reason' in cuda) throw unavailable(`expected an addon with CUDA: ${cuda.reason}`);
  const { version, library } = load(cuda, file);
  const id = via.rank === 0 && comm === undefined ? cuda.nccl.uniqueId() : [];
  const own = device ?? openDevice(0);
  const native = cudaCall(() => nativeDeviceOf(own).nccl(timeout));
  const facts = Float64Array.of(Math.random(), version, comm === undefined ? 0 : 1, ...id);
  return { native, library, device: own, ownsDevice: device === undefined, comm, facts };
}

function load({ nccl }: NativeCuda, file: string): { version: number; library: NcclLibrary } {
  try {
    const version = nccl.load(file);
    const [major, minor, patch] = [version / 1e4, (version / 100) % 100, version % 100].map(Math.floor);
    return { version, library: { file, version: `${major}.${minor}.${patch}` } };
  } catch (error) {
    const { message } = error as Error;
    throw badArgument(
      'ERR_BACKEND',
      'library',
      REMEDY,
      `none: ${message.includes(file) ? message : `${file}: ${message}`}`,
    );
  }
}

/** What every rank says. An error of this one is thrown once the others know of it. */
async function exchange(via: Communicator, say: () => Float64Array): Promise<Float64Array[]> {
  let sent: Float64Array;
  try {
    sent = say();
  } catch (error) {
    await via.allGather(failure(error));
    throw error;
  }
  return checkWell(await via.allGather(well(sent)));
}

async function opened(prepared: Prepared, facts: Float64Array[], via: Communicator): Promise<Opened> {
  const [group] = facts[0];
  checkAlike(facts, via.rank);
  const { rank, size } = via;
  const opening = begin(prepared, { id: Uint8Array.from(facts[0].subarray(ID_AT)), rank, size });
  joinThread(group, rank);
  try {
    await untilAllAre(opening, via);
  } catch (error) {
    leaveThread(group, rank);
    throw error;
  }
  return { ...prepared, place: [rank, size], group };
}

function checkAlike(facts: readonly Float64Array[], rank: number): void {
  const [, version, foreign] = facts[rank];
  const other = facts.findIndex((each) => each[1] !== version);
  if (other !== -1) {
    const got = `${facts[other][1]} on rank ${other}`;
    throw badArgument('ERR_RANK', 'library', `one version of NCCL on all ranks, also ${version}`, got);
  }
  const unlike = facts.findIndex((each) => each[2] !== foreign);
  if (unlike === -1) return;
  throw badArgument(
    'ERR_RANK',
    'comm',
    'one on every rank, or on none',
    `others on rank ${unlike} than on rank ${rank}`,
  );
}

/** The beginning of a communicator: one of another library is there at once. */
async function begin({ native, comm }: Prepared, place: { id: Uint8Array; rank: number; size: number }): Promise<void> {
  if (comm === undefined) await native.openAsync(place);
  else native.adopt({ comm, rank: place.rank, size: place.size });
}

const EVERY = 20; // milliseconds

/** Waits for this rank and the others. Each tells again and again how far it is, so that none waits for one that has failed. */
async function untilAllAre(opening: Promise<void>, via: Communicator): Promise<void> {
  let state: { done: boolean; error?: unknown } = { done: false };
  const settled = opening.then(
    () => {
      state = { done: true };
    },
    (error) => {
      state = { done: false, error };
    },
  );
  for (;;) {
    await Promise.race([settled, new Promise((resolve) => setTimeout(resolve, EVERY))]);
    const all = await exchange(via, () => {
      if (state.error !== undefined) throw state.error;
      return Float64Array.of(state.done ? 1 : 0);
    });
    if (all.every(([done]) => done === 1)) return;
  }
}

/** What NCCL, or CUDA before it, had to say. */
function reported(error: unknown, library: NcclLibrary | undefined): RlvrError {
  const who = library ? `${library.file} (${library.version})` : 'NCCL';
  return new RlvrError('ERR_RANK', `openNccl: ${who} reported ${(error as Error).message}`, { cause: error });
}

function unavailable(why: string): RlvrError {
  return new RlvrError('ERR_BACKEND', `openNccl: ${why}`);
}
