// Which MPI to open: each has a launcher of its own, and a process that another one started would see itself alone.
import type { NativeMpi } from '../backend/addon.js';
import { badArgument } from '../errors.js';

/** An MPI that was opened. */
export interface MpiLibrary {
  /** The name of its file, as it was opened. */
  readonly file: string;
  /** What it says it is, such as `Open MPI v4.1.4` or `MPICH Version: 4.0.2`. */
  readonly version: string;
}

const OPEN_MPI = ['libmpi.so.40'];
const MPICH = ['libmpich.so.12', 'libmpi.so.12']; // Debian's name, and the others'
const STANDARD = ['libmpi_abi.so.1', 'libmpi_abi.so.0', 'libmpi_abi.so'];

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * How many ranks a launcher says it has started; undefined without one that says so. That of an MPI, which others may have started, comes
 * before srun and torchrun, whose processes do not meet in an MPI by themselves.
 */
export function launchedRanks(env: Environment): number | undefined {
  const byTorchrun = env.TORCHELASTIC_RUN_ID === undefined ? undefined : env.WORLD_SIZE;
  const said = env.OMPI_COMM_WORLD_SIZE ?? env.PMI_SIZE ?? env.SLURM_STEP_NUM_TASKS ?? byTorchrun;
  const size = Number.parseInt(said ?? '', 10);
  return Number.isNaN(size) ? undefined : size;
}

/** The files to try, those that fit the launcher first. */
function candidates(env: Environment): string[] {
  const byOpenMpi = env.OMPI_COMM_WORLD_SIZE !== undefined || env.PMIX_RANK !== undefined;
  const byMpich = env.PMI_RANK !== undefined || env.PMI_SIZE !== undefined;
  return byMpich && !byOpenMpi ? [...MPICH, ...STANDARD, ...OPEN_MPI] : [...OPEN_MPI, ...STANDARD, ...MPICH];
}

/** What to do where there is none. */
const REMEDY = 'an MPI (Debian: `apt-get install openmpi-bin`, or `mpich`; elsewhere `library` may name its file)';

let loaded: MpiLibrary | undefined;

/** Opens the file that was asked for, else the first that there is. A process uses one library. */
export function loadLibrary(native: NativeMpi, asked: string | undefined): MpiLibrary {
  if (loaded !== undefined) {
    if (asked === undefined || asked === loaded.file) return loaded;
    throw badArgument('ERR_BACKEND', 'library', `${loaded.file}, which this process uses already`, asked);
  }
  // UCX, which MPIs are often built on, otherwise rewrites the system calls for memory in the running process, to know what it may keep
  // registered. Other threads of Node are in them: about one start in a hundred crashed (MPICH 4.0.2 with UCX 1.13).
  process.env.UCX_MEM_EVENTS ??= 'no';
  const files = asked === undefined ? candidates(process.env) : [asked];
  const reasons: string[] = [];
  for (const file of files) {
    try {
      const version = shortVersion(native.load(file));
      loaded = { file, version };
      return loaded;
    } catch (error) {
      reasons.push(reasonFor(file, (error as Error).message));
    }
  }
  throw badArgument('ERR_BACKEND', 'library', REMEDY, `none: ${reasons.join('; ')}`);
}

/** A message of the dynamic loader names a file, not always this one. */
function reasonFor(file: string, message: string): string {
  if (message.startsWith(file) && message.endsWith('No such file or directory')) return `no ${file}`;
  return message.includes(file) ? message : `${file}: ${message}`;
}

/** The first line, which names the library, without the details of how it was built. */
function shortVersion(text: string): string {
  return text.split('\n')[0].split(',')[0].replace(/\s+/g, ' ').trim();
}
