// Programs whose ranks are processes, under the mpirun of each MPI that there is.
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { nativeAddon } from '../../lib/backend/addon.js';
import { packageRoot } from '../../lib/package-root.js';

/** An mpirun. */
export interface Launcher {
  name: string;
  command: string;
  flags: readonly string[];
  own: string; // its library
  other: string; // a library that it does not go with
}

export const LAUNCHERS: readonly Launcher[] = [
  {
    name: 'Open MPI',
    command: 'mpirun.openmpi',
    flags: ['--oversubscribe'],
    own: 'libmpi.so.40',
    other: 'libmpich.so.12',
  },
  { name: 'MPICH', command: 'mpirun.mpich', flags: [], own: 'libmpich.so.12', other: 'libmpi.so.40' },
];

/** Whether a command is on PATH. */
export function isInstalled(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** How a program ended. */
export interface Run {
  code: number | null;
  lines: unknown[]; // what the ranks said
  output: string; // all of it
  end: number; // milliseconds since 1970
}

const addonFile = process.env.RLVR_ADDON ?? createRequire(import.meta.url)('node-gyp-build').path(packageRoot());
const ENVIRONMENT = {
  TEST_ADDON: addonFile,
  RLVR_THREADS: '1',
  OMPI_ALLOW_RUN_AS_ROOT: '1',
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
};

/** Runs a program, and reads what it says. */
export function run(command: string, args: readonly string[]): Promise<Run> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, ...ENVIRONMENT }, timeout: 55_000, killSignal: 'SIGKILL' as const };
    const child = execFile(command, args, options, (_error, stdout, stderr) => {
      const said = stdout.split('\n').filter((line) => /^[[{"]/.test(line));
      resolve({
        code: child.exitCode,
        lines: said.map((line) => JSON.parse(line)),
        output: stdout + stderr,
        end: Date.now(),
      });
    });
  });
}

/** Whether its absence is a failure. */
export const REQUIRED = process.env.REQUIRE_MPI === '1';

/** Whether there is an addon, which finds MPI. */
export const HAS_ADDON = !('reason' in nativeAddon());

/** Whether programs can be run under it here. */
export const isPresent = ({ command }: Launcher): boolean => HAS_ADDON && isInstalled(command);

/** Runs a program of Node as so many ranks. */
export function mpirun({ command, flags }: Launcher, ranks: number, program: string, ...args: string[]): Promise<Run> {
  return run(command, [...flags, '-n', `${ranks}`, process.execPath, program, ...args]);
}
