// The native addon: what it exports, and why it did not load.
import { join, relative, resolve } from 'node:path';
import { describe } from '../errors.js';
import type { Backend, DeviceMemory, HostArray, HostMatrix, KernelArguments, KernelName } from '../kernels.js';
import { packageRoot, requireFrom } from '../package-root.js';
import type { DeviceSum } from '../ranks/device-sums.js';
import type { GatherCall, NativeCalls, ReduceCall } from '../ranks/native-collectives.js';
import { packageVersion } from '../version.js';
import { damage } from './addon-file.js';
import { addonThatCrashed, installReport, whyNoAddon } from './install-report.js';

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
  /** Enqueues the kernels so far: their arrays get one piece of device memory, and go there at once. */
  flush(): void;
  close(): void;
}

/** native/binding/cuda_device.cpp */
export interface NativeDevice {
  readonly allocatedBytes: number;
  readonly capturing: boolean; // its stream, into a graph
  allocate(bytes: number): DeviceMemory;
  wrap(pointer: bigint, bytes: number): DeviceMemory | string; // or why not
  /** What is on this stream now comes before what is enqueued from now on. */
  waitStream(stream: bigint): void;
  session(): NativeSession;
  nccl(longest: number): NativeNccl;
  synchronize(): void;
  synchronizeAsync(): Promise<void>;
  /** Waits, and gives back what its pool of memory keeps. */
  trim(): void;
  trimAsync(): Promise<void>;
  waitEvent(event: bigint): void;
  recordEvent(event: bigint): void;
  /** For the benchmarks: milliseconds per copy within the device, of `repeats` in a row after an untimed one. */
  timeCopy(to: DeviceMemory, from: DeviceMemory, bytes: number, repeats: number): number;
}

/** native/binding/nccl.h: a rank among GPUs. What goes wrong in a call is thrown as an Error, and ends it. */
export interface NativeNccl extends NativeCalls {
  openAsync(args: { id: Uint8Array; rank: number; size: number }): Promise<void>;
  adopt(args: { comm: bigint; rank: number; size: number }): void;
  sum(args: DeviceSum & { bad: Int32Array }): void;
  sumAsync(args: DeviceSum & { bad: Int32Array }): Promise<void>;
  close(args: { together: boolean }): void;
  closeAsync(args: { together: boolean }): Promise<void>;
  /** Blocks until no asynchronous call is in progress, or so many milliseconds. */
  wait(longest: number): void;
  /** Lets the communicator go: a call in progress ends with an error. */
  dispose(): void;
}

type Enqueue = {
  [K in KernelName]: (session: NativeSession, args: KernelArguments[K]) => void;
};

/** The addon's `cuda` table. */
export interface NativeCuda extends Enqueue {
  info(index: number): CudaInfo;
  /** Looks for cuBLASLt: why there is none, or an empty string. */
  findProducts(): string;
  nccl: {
    /** Opens a library, and returns its version: 10000 * major + 100 * minor + patch. */
    load(file: string): number;
    uniqueId(): Uint8Array;
  };
  Device: new (index: number, stream: bigint | undefined, owner?: unknown) => NativeDevice;
}

/** Arguments of a sum or maximum over the ranks of a communicator of MPI's, known by its number. */
type MpiReduce = ReduceCall & { communicator: number };
/** Arguments of a gathering of every rank's numbers. */
type MpiGather = GatherCall & { communicator: number };

/** The addon's `mpi` table, native/binding/mpi.cpp. What MPI reports is thrown as an Error. */
export interface NativeMpi {
  /** Opens a library, and returns what it says of its version. */
  load(file: string): string;
  /** Whether this started MPI, rather than somebody before. */
  start(): boolean;
  finalize(): void;
  /** The exit code of all ranks, should this process end with communicators open. */
  exiting(args: { code: number }): void;
  /** Blocks until asynchronous operations have ended. */
  drain(): void;
  open(args: { hasHandle: boolean; handle: number }): number;
  place(args: { communicator: number }): [rank: number, size: number];
  split(args: { communicator: number; color: number; key: number }): number;
  release(args: { communicator: number; together: boolean }): void;
  reduce(args: MpiReduce): void;
  reduceAsync(args: MpiReduce): Promise<void> | undefined;
  gather(args: MpiGather): void;
  gatherAsync(args: MpiGather): Promise<void> | undefined;
}

/** native/cpu/diagnostics.h */
export interface MatrixProduct {
  left: Float32Array;
  right: Float32Array;
  leftTransposed: boolean;
  rightTransposed: boolean;
  rows: number;
  columns: number;
  depth: number;
  out: Float32Array;
}

/** The addon's export table, native/binding/exports.h. */
export interface Addon extends SyncKernels, AsyncKernels {
  version: string; // of the package it was built from
  cuda: NativeCuda | { info?: undefined }; // empty in a build without CUDA
  mpi: NativeMpi;
  cpuInfo(): { simd: string; threads: number };
  /** Where an array begins in memory. */
  address(array: ArrayBufferView): number;
  preferHugePages(args: { memory: Uint8Array; bytes: number }): void;
  simdExp(args: { x: Float32Array; out: Float32Array; count: number }): void;
  readMemory(args: { source: Uint8Array; bytes: number }): number;
  copyMemory(args: { source: Uint8Array; destination: Uint8Array; bytes: number }): void;
  streamMemory(args: { source: Uint8Array; destination: Uint8Array; bytes: number }): void;
  /** How many operations that were: `steps` products and sums on each lane of many registers, on all threads. */
  multiplyAdd(args: { steps: number }): number;
  /** `out` = left . right, [rows, depth] . [depth, columns], each contiguous, or transposed. */
  matrixProduct(args: MatrixProduct): void;
  limitThreads(args: { threads: number }): void;
}

/**
 * Where the addon came from.
 * @inline
 */
export type AddonOrigin = 'prebuild' | 'source build' | 'RLVR_ADDON';

/** A backend that is available, with what `backends()` says of it. */
export type Present<Info> = { backend: Backend; info: Info };
/**
 * Why something is not available; `asked` is set if a variable asks for it, so that nothing else may take its place, and `byNature` if it
 * can be nowhere on this platform, so that nothing is wrong when something else does.
 */
export type Absent = { reason: string; asked?: true; byNature?: true };

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

/** The CUDA part of the addon, or the reason why there is none. */
export function nativeCuda(): NativeCuda | Absent {
  const native = nativeAddon();
  if ('reason' in native) return native;
  if (!native.cuda.info) return { reason: installReport(/CUDA/) ?? 'the addon was built without CUDA' };
  return native.cuda;
}

/** `RLVR_ADDON` names another build of the addon, such as one with sanitizers. */
function load(): Addon | Absent {
  const named = process.env.RLVR_ADDON;
  if (!named) return loadInstalled();
  const found = loadFile(resolve(named));
  if (!('reason' in found)) return found;
  const expected = `an addon of rlvr-kernels ${packageVersion()}`;
  return { reason: `RLVR_ADDON: expected ${expected}, got ${describe(named)}: ${found.reason}`, asked: true };
}

function loadInstalled(): Addon | Absent {
  let file: string;
  try {
    file = installedFile();
  } catch (error) {
    return { reason: installReport() ?? whyNoAddon(error) };
  }
  const name = relative(packageRoot(), file);
  const crashed = addonThatCrashed();
  if (crashed?.addon === name) return { reason: crashed.reason };
  const found = loadFile(file);
  if (!('reason' in found)) return found;
  return { reason: installReport() ?? `the addon did not load: ${found.reason}` };
}

/** build/Release before prebuilds/; throws where neither has one. Taken from the package, which no bundler can move. */
function installedFile(): string {
  const root = packageRoot();
  return requireFrom(join(root, 'package.json'))('node-gyp-build').resolve(root);
}

function loadFile(file: string): Addon | Absent {
  try {
    const reason = damage(file);
    if (reason) return { reason };
    const loaded: Partial<Addon> = requireFrom(file)(file);
    return loaded.version === packageVersion() ? (loaded as Addon) : { reason: wrongAddon(file, loaded) };
  } catch (error) {
    return { reason: String((error as Error).message).split('\n')[0] };
  }
}

/** Kernels of another version may take other arguments, and would fail at the first call that uses them. */
function wrongAddon(file: string, { version, cpuInfo }: Partial<Addon>): string {
  if (typeof cpuInfo !== 'function') return `${file} is not an addon of rlvr-kernels`;
  const of = typeof version === 'string' ? `of version ${version}` : 'of a version that does not say its number';
  return `${file} is the addon ${of}, this is version ${packageVersion()}`;
}

/** Where the loaded addon came from. */
export function addonOrigin(): AddonOrigin {
  if (process.env.RLVR_ADDON) return 'RLVR_ADDON';
  return /(^|[\\/])prebuilds[\\/]/.test(relative(packageRoot(), installedFile())) ? 'prebuild' : 'source build';
}
