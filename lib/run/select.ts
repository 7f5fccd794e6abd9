// Which backends there are, which one runs an op, and why the others do not.
import type { Absent, AddonOrigin } from '../backend/addon.js';
import { cpuBackend } from '../backend/cpu.js';
import { cudaBackend } from '../backend/cuda.js';
import { wasmBackend } from '../backend/wasm.js';
import { DeviceTensor, deviceBackendOf } from '../cuda/device.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import type { Backend, BackendName } from '../kernels.js';
import { setting, warn } from '../platform.js';
import { referenceBackend } from '../reference/backend.js';

/** One line of {@link backends}. */
export interface BackendInfo {
  /** Which backend. */
  name: BackendName;
  /** Whether ops and losses can run on it. */
  available: boolean;
  /** Why it is not available. */
  reason?: string;
  /** Instruction set in use (cpu; wasm: `'simd128'`, or `'relaxed'` where the engine has relaxed SIMD). */
  simd?: string;
  /** Threads in use (cpu, wasm). */
  threads?: number;
  /** Where the native addon came from (cpu). */
  addon?: AddonOrigin;
  /** Name of the first device (cuda). */
  device?: string;
  /** Compute capability of the device (cuda). */
  computeCapability?: string;
  /** Memory of the device in bytes (cuda). */
  memory?: number;
  /** CUDA version of the driver, 1000 * major + 10 * minor (cuda). */
  driver?: number;
  /** CUDA version the addon was built with (cuda). */
  runtime?: number;
  /** Number of devices (cuda). */
  devices?: number;
}

const NAMES: readonly BackendName[] = ['cuda', 'cpu', 'wasm', 'reference'];

/**
 * Every backend this package knows, best first: what loaded, and for the rest why not. Never throws.
 *
 * @example
 * ```ts
 * import { backends } from 'rlvr-kernels';
 *
 * for (const { name, available, reason, simd } of backends()) {
 *   console.log(name, available ? (simd ?? 'available') : reason);
 * }
 * ```
 */
export function backends(): BackendInfo[] {
  return [
    describeBackend('cuda', cudaBackend()),
    describeBackend('cpu', cpuBackend()),
    describeBackend('wasm', wasmBackend()),
    { name: 'reference', available: true },
  ];
}

function describeBackend(name: BackendName, found: { info: object } | { reason: string }): BackendInfo {
  return 'info' in found ? { name, available: true, ...found.info } : { name, available: false, reason: found.reason };
}

/**
 * A DeviceTensor runs on its device; host arrays on the backend asked for, else `RLVR_BACKEND`, else cpu, else with a warning
 * wasm, else reference, unless it is a variable such as `RLVR_THREADS` that keeps cpu away.
 */
export function selectBackend(wanted?: BackendName, data?: unknown, name = 'logits'): Backend {
  if (data instanceof DeviceTensor) {
    if (wanted === undefined || wanted === 'cuda') return deviceBackendOf(data.device);
    throw badArgument('ERR_BACKEND', 'backend', `'cuda' for ${name} in a DeviceTensor`, describe(wanted));
  }
  if (wanted !== undefined) return named('backend', wanted);
  const fromEnvironment = setting('RLVR_BACKEND');
  if (fromEnvironment) return named('RLVR_BACKEND', fromEnvironment as BackendName);
  const cpu = cpuBackend();
  if ('backend' in cpu) return cpu.backend;
  if (cpu.asked) throw new RlvrError('ERR_BACKEND', cpu.reason);
  return withoutAddon(cpu);
}

/** The best of what does not need the addon. */
function withoutAddon({ reason, byNature }: Absent): Backend {
  const wasm = wasmBackend();
  if ('backend' in wasm) {
    if (!byNature) warnOnce('RLVR_WASM', 'wasm', `in WebAssembly, several times slower than with its addon: ${reason}`);
    return wasm.backend;
  }
  if (wasm.asked) throw new RlvrError('ERR_BACKEND', wasm.reason);
  const both = `${reason}; nor is there WebAssembly: ${wasm.reason}`;
  warnOnce('RLVR_REFERENCE', 'reference', `in plain TypeScript, tens of times slower than with its addon: ${both}`);
  return referenceBackend;
}

let warned = false;

/** Results are right, and nothing else would tell why they take so long. */
function warnOnce(code: string, backend: BackendName, how: string): void {
  if (warned) return;
  warned = true;
  warn(`rlvr-kernels runs ${how}`, code, `If that is meant, set RLVR_BACKEND=${backend}.`);
}

function named(argument: string, name: BackendName): Backend {
  if (!NAMES.includes(name)) {
    throw badArgument('ERR_BACKEND', argument, NAMES.map((n) => `'${n}'`).join(' or '), describe(name));
  }
  if (name === 'reference') return referenceBackend;
  const found = { cpu: cpuBackend, wasm: wasmBackend, cuda: cudaBackend }[name]();
  if ('backend' in found) return found.backend;
  throw new RlvrError('ERR_BACKEND', `${argument}: expected an available backend, got '${name}': ${found.reason}`);
}
