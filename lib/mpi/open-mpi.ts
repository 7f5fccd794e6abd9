import { isMainThread } from 'node:worker_threads';
import { nativeAddon } from '../backend/addon.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { namesOf, takeOptions } from '../options.js';
import { finiteNumber, objectArgument, optional } from '../validate.js';
import { launchedRanks, loadLibrary, type MpiLibrary } from './libraries.js';
import { type MpiCommunicator, Ranks } from './mpi-communicator.js';

export type { MpiLibrary } from './libraries.js';

/** Options of {@link openMpi}. */
export interface MpiOptions {
  /**
   * A communicator of another library in this process, by its Fortran handle (`MPI_Comm_c2f`), which is copied. Default: all ranks
   * (`MPI_COMM_WORLD`).
   */
  comm?: number | undefined;
  /** The file of the MPI to use, a path or a name that the dynamic loader finds. Default: what fits the launcher, else what there is. */
  library?: string | undefined;
}

/**
 * The ranks that `mpirun` or another launcher started, over the MPI of this machine: Open MPI, MPICH (and what is compatible with it), or
 * one with the ABI of MPI 5. Linux only. All ranks call it. Without a launcher there is one rank.
 *
 * A rank that ends with an error, or in the middle of a call, ends all of them (`MPI_Abort`).
 *
 * @example
 * ```ts
 * import { openMpi } from 'rlvr-kernels/mpi';
 *
 * using world = openMpi();
 * const [ranks] = await world.allReduce(Float64Array.of(1), 'sum');
 * console.log(`rank ${world.rank} of ${ranks}, by ${world.library.version}`);
 * ```
 *
 * @throws RlvrError `ERR_BACKEND`, saying what was tried, where there is no MPI, no addon, or one MPI under the launcher of another;
 * `ERR_OPTION`, `ERR_DTYPE`, `ERR_RANGE`; `ERR_RANK` for what MPI reports.
 */
export function openMpi(options: MpiOptions = {}): MpiCommunicator {
  const names = namesOf<MpiOptions>({ comm: true, library: true });
  const { comm, library: asked }: MpiOptions = takeOptions('openMpi', objectArgument('options', options), names);
  optional(comm, (handle) => finiteNumber('comm', handle, { min: -(2 ** 31), max: 2 ** 31 - 1, integer: true }));
  if (asked !== undefined && (typeof asked !== 'string' || asked === '')) {
    throw badArgument('ERR_DTYPE', 'library', 'the name of a file', describe(asked));
  }
  if (process.platform !== 'linux') throw unavailable(`expected Linux, got ${process.platform}`);
  if (!isMainThread) throw unavailable('expected the main thread, with whose process MPI ends, got a worker');
  const native = nativeAddon();
  if ('reason' in native) throw unavailable(`expected the native addon: ${native.reason}`);
  const library = loadLibrary(native.mpi, asked);
  let world: Ranks;
  try {
    const starts = native.mpi.start();
    const number = native.mpi.open({ hasHandle: comm !== undefined, handle: comm ?? 0 });
    world = new Ranks(native.mpi, library, number, starts);
  } catch (error) {
    const message = `openMpi: ${library.file} (${library.version}) reported ${(error as Error).message}`;
    throw new RlvrError('ERR_RANK', message, { cause: error });
  }
  if (comm === undefined) checkLauncher(world, library);
  return world;
}

/** An MPI that does not understand its launcher sees one rank where there are several, and each would go its own way. */
function checkLauncher(world: MpiCommunicator, { file, version }: MpiLibrary): void {
  const launched = launchedRanks(process.env);
  if (launched === undefined || launched === 1 || world.size > 1) return;
  world.close();
  const expected = `the MPI of the launcher, which started ${launched} ranks (mpirun, or srun with --mpi=pmix or --mpi=pmi2)`;
  throw badArgument('ERR_BACKEND', 'library', expected, `${file} (${version}), which sees one`);
}

function unavailable(why: string): RlvrError {
  return new RlvrError('ERR_BACKEND', `openMpi: ${why}`);
}
