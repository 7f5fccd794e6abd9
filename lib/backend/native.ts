// Loads the native addon, or says why it did not load.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { KernelArguments, KernelCall, KernelName } from './kernels.js';
import type { Backend } from './select.js';

type SyncKernels = { [K in KernelName]: (args: KernelArguments[K]) => void };
type AsyncKernels = {
  [K in KernelName as `${K}Async`]: (args: KernelArguments[K] & { cancel: Int32Array }) => Promise<void>;
};

/** The addon's export table, native/binding/exports.h. */
export interface Addon extends SyncKernels, AsyncKernels {
  cpuInfo(): { simd: string; threads: number };
  simdExp(args: { x: Float32Array; out: Float32Array; count: number }): void;
  readMemory(args: { source: Uint8Array; bytes: number }): number;
  copyMemory(args: { source: Uint8Array; destination: Uint8Array; bytes: number }): void;
}

type Loaded = { backend: Backend; addon: Addon; info: { simd: string; threads: number } } | { reason: string };

let loaded: Loaded | undefined;

/** The cpu backend, loaded at the first call, or the reason there is none. */
export function nativeBackend(): Loaded {
  loaded ??= load();
  return loaded;
}

const require = createRequire(import.meta.url);
const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** `RLVR_ADDON` names another build of the addon, such as one with sanitizers. */
function load(): Loaded {
  try {
    const path = process.env.RLVR_ADDON;
    const addon: Addon = path ? require(path) : require('node-gyp-build')(packageRoot);
    return { backend: cpuBackend(addon), addon, info: addon.cpuInfo() };
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

function cpuBackend(addon: Addon): Backend {
  const sync = addon as { [K in KernelName]: (args: KernelCall['args']) => void };
  const async = addon as unknown as Record<
    string,
    (args: KernelCall['args'] & { cancel: Int32Array }) => Promise<void>
  >;
  return {
    name: 'cpu',
    run: ({ kernel, args }) => sync[kernel](args),
    runAsync: ({ kernel, args }, cancel) => async[`${kernel}Async`]({ ...args, cancel }),
  };
}
