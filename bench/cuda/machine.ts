// Which GPU, driver and commit a result came from; and what keeps the emulation's results apart from a GPU's.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { nativeCuda } from '../../lib/backend/addon.js';
import { packageRoot } from '../../lib/package-root.js';
import { describeCommit } from '../machine.js';

export interface DeviceDescription {
  readonly name: string;
  readonly computeCapability: string;
  readonly memoryGiB: number;
  /** The CUDA version that the driver is for. */
  readonly driverCuda: string;
  /** The CUDA version that the addon was built with. */
  readonly runtimeCuda: string;
  /** The driver's own version, as nvidia-smi reports it. */
  readonly driver: string | null;
  readonly emulated: boolean;
}

/** Where results go. */
export const RESULTS = join(packageRoot(), 'bench', 'results');

/** Of 1000 * major + 10 * minor. */
const cudaVersion = (number: number) => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;

function driverVersion(): string | null {
  const query = ['--query-gpu=driver_version', '--format=csv,noheader', '--id=0'];
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 20_000 });
  return status === 0 ? stdout.trim() || null : null;
}

/** The first device, or the reason that there is none. */
export function describeDevice(): DeviceDescription | { reason: string } {
  const native = nativeCuda();
  if ('reason' in native) return native;
  const info = native.info(0);
  if (info.reason !== undefined) return { reason: info.reason };
  return {
    name: info.device,
    computeCapability: info.computeCapability,
    memoryGiB: Math.round((info.memory / 2 ** 30) * 10) / 10,
    driverCuda: cudaVersion(info.driver),
    runtimeCuda: cudaVersion(info.runtime),
    driver: driverVersion(),
    emulated: 'emulation' in native || info.device === 'emulated',
  };
}

/** "NVIDIA H100 80GB HBM3" as a file name: nvidia-h100-80gb-hbm3. */
export function deviceSlug(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** The commit; where there is no git, what RLVR_COMMIT gives ("<hash>", or "<hash>+dirty"). */
export function commitOfRun(): { commit: string | null; dirty: boolean | null } {
  const given = process.env.RLVR_COMMIT;
  if (!given) return describeCommit();
  const [commit, dirty] = given.split('+');
  return { commit, dirty: dirty === 'dirty' };
}

/** "NVIDIA H100, compute capability 9.0, …" */
export function deviceLine(device: DeviceDescription): string {
  const { name, computeCapability, memoryGiB, driver, driverCuda, runtimeCuda, emulated } = device;
  const what = emulated ? `${name} (the emulation: no GPU)` : name;
  const versions = `driver ${driver ?? 'unknown'} for CUDA ${driverCuda}, built with CUDA ${runtimeCuda}`;
  return `${what}, compute capability ${computeCapability}, ${memoryGiB} GiB; ${versions}`;
}
