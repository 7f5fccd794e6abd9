// Loads the native addon, or says why it did not load; makes backends of what it exports.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { runReference } from '../reference/backend.js';
import { packageVersion } from '../version.js';
import { type CudaInfo, deviceBackend, type NativeCuda } from './cuda.js';
import type { KernelArguments, KernelCall, KernelName } from './kernels.js';
import type { Backend } from './select.js';
import { isTiny } from './tiny.js';

type SyncKernels = { [K in KernelName]: (args: KernelArguments[K]) => void };
type AsyncKernels = {
  [K in KernelName as `${K}Async`]: (args: KernelArguments[K] & { cancel: Int32Array }) => Promise<void>;
};

/** The addon's export table, native/binding/exports.h. */
export interface Addon extends SyncKernels, AsyncKernels {
  version: string; // of the package it was built from
  cuda: NativeCuda | { info?: undefined }; // empty in a build without CUDA
  cpuInfo(): { simd: string; threads: number };
  preferHugePages(args: { memory: Uint8Array; bytes: number }): void;
  simdExp(args: { x: Float32Array; out: Float32Array; count: number }): void;
  readMemory(args: { source: Uint8Array; bytes: number }): number;
  copyMemory(args: { source: Uint8Array; destination: Uint8Array; bytes: number }): void;
  streamMemory(args: { source: Uint8Array; destination: Uint8Array; bytes: number }): void;
  limitThreads(args: { threads: number }): void;
}

/**
 * Where the addon came from.
 * @inline
 */
export type AddonOrigin = 'prebuild' | 'source build' | 'RLVR_ADDON';

type Present<Info> = { backend: Backend; info: Info };
type Absent = { reason: string };

let addon: Addon | Absent | undefined;

/** The addon, loaded at the first call, or the reason there is none. */
export function nativeAddon(): Addon | Absent {
  addon ??= load();
  return addon;
}

/** The addon, if somebody has needed it. */
export function loadedAddon(): Addon | undefined {
  return addon && 'reason' in addon ? undefined : addon;
}

const require = createRequire(import.meta.url);
const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** `RLVR_ADDON` names another build of the addon, such as one with sanitizers. */
function load(): Addon | Absent {
  try {
    const path = process.env.RLVR_ADDON;
    const loaded: Partial<Addon> = path ? require(path) : require('node-gyp-build')(packageRoot);
    return loaded.version === packageVersion()
      ? (loaded as Addon)
      : { reason: wrongAddon(path ?? require('node-gyp-build').resolve(packageRoot), loaded) };
  } catch (error) {
    return { reason: installReport() ?? `the addon did not load: ${(error as Error).message.split('\n')[0]}` };
  }
}

/** Kernels of another version may take other arguments, and would fail at the first call that uses them. */
function wrongAddon(file: string, { version, cpuInfo }: Partial<Addon>): string {
  if (typeof cpuInfo !== 'function') return `the addon did not load: ${file} is not an addon of rlvr-kernels`;
  const of = typeof version === 'string' ? `of version ${version}` : 'of a version that does not say its number';
  return `the addon did not load: ${file} is the addon ${of}, this is version ${packageVersion()}`;
}

/** What scripts/install.mjs says of the missing addon; of the one there is, if that is about `subject`. */
function installReport(subject?: RegExp): string | undefined {
  try {
    const report = JSON.parse(readFileSync(`${packageRoot}/build/install-report.json`, 'utf8'));
    const said = typeof report.reason === 'string' && (subject ? subject.test(report.reason) : report.ok === false);
    return said ? report.reason : undefined;
  } catch {
    return undefined; // installed without running scripts
  }
}

interface CpuInfo {
  simd: string;
  threads: number;
  addon: AddonOrigin;
}

function addonOrigin(): AddonOrigin {
  if (process.env.RLVR_ADDON) return 'RLVR_ADDON';
  return /[\\/]prebuilds[\\/]/.test(require('node-gyp-build').resolve(packageRoot)) ? 'prebuild' : 'source build';
}

let cpu: Present<CpuInfo> | Absent | undefined;
let cuda: Present<CudaInfo> | Absent | undefined;

/** The cpu backend, or the reason there is none. */
export function cpuBackend(): Present<CpuInfo> | Absent {
  const native = nativeAddon();
  cpu ??=
    'reason' in native ? native : { backend: hostBackend(native), info: { ...native.cpuInfo(), addon: addonOrigin() } };
  return cpu;
}

/** The CUDA part of the addon, or the reason that nothing can come of it. */
export function nativeCuda(): NativeCuda | Absent {
  const native = nativeAddon();
  if ('reason' in native) return native;
  if (!native.cuda.info) return { reason: installReport(/CUDA/) ?? 'the addon was built without CUDA' };
  return native.cuda;
}

/** The CUDA backend for host arrays, on the first device, or the reason there is none. Looks for a driver once. */
export function cudaBackend(): Present<CudaInfo> | Absent {
  cuda ??= findCuda(nativeCuda());
  return cuda;
}

function findCuda(native: NativeCuda | Absent): Present<CudaInfo> | Absent {
  if ('reason' in native) return native;
  const { reason, ...info } = native.info(0);
  if (reason !== undefined) return { reason };
  return { backend: deviceBackend(native, () => new native.Device(0, undefined)), info };
}

/** Kernels on arrays as they are; the tiny ones without a call into the addon. */
function hostBackend(native: Addon): Backend {
  const sync = native as { [K in KernelName]: (args: KernelCall['args']) => void };
  const async = native as unknown as Record<
    string,
    (args: KernelCall['args'] & { cancel: Int32Array }) => Promise<void>
  >;
  const run = {
    kernel: (call: KernelCall) => (isTiny(call) ? runReference(call) : sync[call.kernel](call.args)),
    kernelAsync: (call: KernelCall, cancel: Int32Array) =>
      isTiny(call) ? runReference(call) : async[`${call.kernel}Async`]({ cancel, ...call.args }),
    read() {},
    readAsync: () => undefined,
    close() {},
  };
  return { name: 'cpu', start: () => run };
}
