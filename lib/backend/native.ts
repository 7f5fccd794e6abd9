// Loads the native addon, or says why it did not load; makes backends of what it exports.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { RlvrError } from '../errors.js';
import type { KernelArguments, KernelCall, KernelName } from './kernels.js';
import type { Backend, BackendName } from './select.js';

type SyncKernels = { [K in KernelName]: (args: KernelArguments[K]) => void };
type AsyncKernels = {
  [K in KernelName as `${K}Async`]: (args: KernelArguments[K] & { cancel: Int32Array }) => Promise<void>;
};
type Kernels = SyncKernels & AsyncKernels;

/** What cuda.info() says; `reason` is there when no device can be used. */
export interface CudaInfo {
  reason?: string;
  device: string;
  computeCapability: string;
  memory: number; // bytes
  driver: number; // CUDA version: 1000 * major + 10 * minor
  runtime: number;
}

/** The addon's export table, native/binding/exports.h. */
export interface Addon extends Kernels {
  cuda: Kernels & { info?: () => CudaInfo }; // empty in a build without CUDA
  cpuInfo(): { simd: string; threads: number };
  simdExp(args: { x: Float32Array; out: Float32Array; count: number }): void;
  readMemory(args: { source: Uint8Array; bytes: number }): number;
  copyMemory(args: { source: Uint8Array; destination: Uint8Array; bytes: number }): void;
}

type Present<Info> = { backend: Backend; info: Info };
type Absent = { reason: string };

let addon: Addon | Absent | undefined;

/** The addon, loaded at the first call, or the reason there is none. */
export function nativeAddon(): Addon | Absent {
  addon ??= load();
  return addon;
}

const require = createRequire(import.meta.url);
const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** `RLVR_ADDON` names another build of the addon, such as one with sanitizers. */
function load(): Addon | Absent {
  try {
    const path = process.env.RLVR_ADDON;
    const loaded: Partial<Addon> = path ? require(path) : require('node-gyp-build')(packageRoot);
    if (typeof loaded.cpuInfo !== 'function' || typeof loaded.cuda !== 'object') {
      return { reason: `the addon did not load: ${path ?? 'the binary'} is not this version's addon` };
    }
    return loaded as Addon;
  } catch (error) {
    return { reason: installReport() ?? `the addon did not load: ${(error as Error).message.split('\n')[0]}` };
  }
}

/** What scripts/install.mjs wrote when it could not build the addon. */
function installReport(): string | undefined {
  try {
    const report = JSON.parse(readFileSync(`${packageRoot}/build/install-report.json`, 'utf8'));
    return report.ok === false && typeof report.reason === 'string' ? report.reason : undefined;
  } catch {
    return undefined; // installed without running scripts
  }
}

let cpu: Present<{ simd: string; threads: number }> | Absent | undefined;
let cuda: Present<CudaInfo> | Absent | undefined;

/** The cpu backend, or the reason there is none. */
export function cpuBackend(): Present<{ simd: string; threads: number }> | Absent {
  const native = nativeAddon();
  cpu ??= 'reason' in native ? native : { backend: backendOf('cpu', native), info: native.cpuInfo() };
  return cpu;
}

/** The CUDA backend, or the reason there is none. Looks for a driver at the first call. */
export function cudaBackend(): Present<CudaInfo> | Absent {
  cuda ??= findCuda(nativeAddon());
  return cuda;
}

function findCuda(native: Addon | Absent): Present<CudaInfo> | Absent {
  if ('reason' in native) return native;
  if (!native.cuda.info) return { reason: 'the addon was built without CUDA (no nvcc then)' };
  const info = native.cuda.info();
  return info.reason === undefined ? { backend: backendOf('cuda', native.cuda), info } : { reason: info.reason };
}

function backendOf(name: BackendName, kernels: Kernels): Backend {
  const sync = kernels as { [K in KernelName]: (args: KernelCall['args']) => void };
  const async = kernels as unknown as Record<
    string,
    (args: KernelCall['args'] & { cancel: Int32Array }) => Promise<void>
  >;
  return {
    name,
    run({ kernel, args }) {
      try {
        sync[kernel](args);
      } catch (error) {
        throw deviceError(name, error);
      }
    },
    async runAsync({ kernel, args }, cancel) {
      try {
        await async[`${kernel}Async`]({ ...args, cancel });
      } catch (error) {
        throw deviceError(name, error);
      }
    },
  };
}

/** What the CUDA runtime said, as an error of this package; anything else is a fault of ours and stays as it is. */
function deviceError(name: BackendName, error: unknown): unknown {
  if (name !== 'cuda' || !(error instanceof Error) || error instanceof TypeError) return error;
  return new RlvrError('ERR_CUDA', error.message, { cause: error });
}
