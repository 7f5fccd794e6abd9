// Which GPU, driver and commit a result came from; and what keeps the emulation's results from being one.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeCommit } from '../../dist/bench/machine.js';
import { nativeCuda } from '../../dist/lib/backend/cuda.js';

/**
 * @typedef {object} DeviceDescription
 * @property {string} name
 * @property {string} computeCapability
 * @property {number} memoryGiB
 * @property {string} driverCuda the CUDA version that the driver is for
 * @property {string} runtimeCuda the CUDA version that the addon was built with
 * @property {string | null} driver the driver's own version, as nvidia-smi tells it
 * @property {boolean} emulated
 */

/** Where results go. */
export const RESULTS = join(dirname(dirname(fileURLToPath(import.meta.url))), 'results');

/** @param {number} number 1000 * major + 10 * minor */
const cudaVersion = (number) => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;

function driverVersion() {
  const query = ['--query-gpu=driver_version', '--format=csv,noheader', '--id=0'];
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 20_000 });
  return status === 0 ? stdout.trim() || null : null;
}

/** The first device, or the reason that there is none. @returns {DeviceDescription | { reason: string }} */
export function describeDevice() {
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

/** "NVIDIA H100 80GB HBM3" as a file name: nvidia-h100-80gb-hbm3. @param {string} name */
export function deviceSlug(name) {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** The commit; where there is no git, what RLVR_COMMIT says ("<hash>", or "<hash>+dirty"). */
export function commitOfRun() {
  const said = process.env.RLVR_COMMIT;
  if (!said) return describeCommit();
  const [commit, dirty] = said.split('+');
  return { commit, dirty: dirty === 'dirty' };
}

/** "NVIDIA H100, compute capability 9.0, ..." @param {DeviceDescription} device */
export function deviceLine({ name, computeCapability, memoryGiB, driver, driverCuda, runtimeCuda, emulated }) {
  const what = emulated ? `${name} (the emulation: no GPU)` : name;
  const versions = `driver ${driver ?? 'unknown'} for CUDA ${driverCuda}, built with CUDA ${runtimeCuda}`;
  return `${what}, compute capability ${computeCapability}, ${memoryGiB} GiB; ${versions}`;
}
