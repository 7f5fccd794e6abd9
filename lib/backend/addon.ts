// The native addon: what it exports, and why it did not load.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Backend, DeviceMemory, HostArray, HostMatrix, KernelArguments, KernelName } from '../kernels.js';
import { packageRoot, packageVersion } from '../version.js';

type SyncKernels = { [K in KernelName]: (args: KernelArguments[K]) => void };
type AsyncKernels = {
  [K in KernelName as `${K}Async`]: (args: KernelArguments[K] & { cancel: Int32Array }) => Promise<void>;
};

/** What cuda.info() reports of a device; `reason` is set when it cannot be used. */
export interface CudaInfo {
  reason?: string;
  device: string;
  computeCapability: string;
  memory: number; // bytes
  driver: number; // CUDA version: 1000 * major + 10 * minor
  runtime: number;
  devices: number;
}

/** native/binding/cuda_session.h */
export interface NativeSession {
  upload(host: HostMatrix): void;
  uploadAsync(host: HostMatrix): Promise<void> | undefined;
  read(arrays: readonly HostArray[]): void;
  readAsync(arrays: readonly HostArray[]): Promise<void>;
  close(): void;
}

/** native/binding/cuda_device.cpp */
export interface NativeDevice {
  readonly allocatedBytes: number;
  allocate(bytes: number): DeviceMemory;
  wrap(pointer: bigint, bytes: number): DeviceMemory | string; // or why not
  session(): NativeSession;
  synchronize(): void;
  synchronizeAsync(): Promise<void>;
  /** For the benchmarks: milliseconds per copy within the device, of `repeats` in a row after an untimed one. */
  timeCopy(to: DeviceMemory, from: DeviceMemory, bytes: number, repeats: number): number;
}

type Enqueue = { [K in KernelName]: (session: NativeSession, args: KernelArguments[K]) => void };

/** The addon's `cuda` table. */
export interface NativeCuda extends Enqueue {
  info(index: number): CudaInfo;
  Device: new (index: number, stream: bigint | undefined) => NativeDevice;
}

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

/** A backend that is available, with what `backends()` says of it. */
export type Present<Info> = { backend: Backend; info: Info };
/** Why something is not available. */
export type Absent = { reason: string };

let addon: Addon | Absent | undefined;

/** The addon, loaded at the first call, or the reason there is none. */
export function nativeAddon(): Addon | Absent {
  addon ??= load();
  return addon;
}

/** The addon, if it has been loaded already. */
export function loadedAddon(): Addon | undefined {
  return addon && 'reason' in addon ? undefined : addon;
}

const require = createRequire(import.meta.url);

/** `RLVR_ADDON` names another build of the addon, such as one with sanitizers. */
function load(): Addon | Absent {
  try {
    const path = process.env.RLVR_ADDON;
    const loaded: Partial<Addon> = path ? require(path) : require('node-gyp-build')(packageRoot());
    return loaded.version === packageVersion()
      ? (loaded as Addon)
      : { reason: wrongAddon(path ?? require('node-gyp-build').resolve(packageRoot()), loaded) };
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

/** Why install/install.mjs left no addon; with `subject`, what it reported if that is about the subject. */
export function installReport(subject?: RegExp): string | undefined {
  try {
    const report = JSON.parse(readFileSync(`${packageRoot()}/build/install-report.json`, 'utf8'));
    const said = typeof report.reason === 'string' && (subject ? subject.test(report.reason) : report.ok === false);
    return said ? report.reason : undefined;
  } catch {
    return undefined; // installed without running scripts
  }
}

/** Where the loaded addon came from. */
export function addonOrigin(): AddonOrigin {
  if (process.env.RLVR_ADDON) return 'RLVR_ADDON';
  return /[\\/]prebuilds[\\/]/.test(require('node-gyp-build').resolve(packageRoot())) ? 'prebuild' : 'source build';
}
