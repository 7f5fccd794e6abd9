// Which backends there are, which one runs an op, and why the others do not.
import { badArgument, describe, RlvrError } from '../errors.js';
import { referenceBackend } from '../reference/backend.js';
import type { KernelCall } from './kernels.js';
import { nativeBackend } from './native.js';

export type BackendName = 'reference' | 'cpu' | 'cuda';

/** Runs kernels. `runAsync` keeps the event loop free and stops early once `cancel[0]` is not 0. */
export interface Backend {
  readonly name: BackendName;
  run(call: KernelCall): void;
  runAsync(call: KernelCall, cancel: Int32Array): Promise<void>;
}

/** One line of {@link backends}. */
export interface BackendInfo {
  name: BackendName;
  available: boolean;
  /** Why it is not available. */
  reason?: string;
  /** Instruction set in use (cpu). */
  simd?: string;
  /** Threads in use (cpu). */
  threads?: number;
}

const NAMES: readonly BackendName[] = ['cuda', 'cpu', 'reference'];

/** Every backend this package knows, best first: what loaded, and for the rest why not. Loads no driver, never throws. */
export function backends(): BackendInfo[] {
  const native = nativeBackend();
  return [
    { name: 'cuda', available: false, reason: 'this version has no CUDA kernels' },
    'backend' in native
      ? { name: 'cpu', available: true, ...native.info }
      : { name: 'cpu', available: false, reason: native.reason },
    { name: 'reference', available: true },
  ];
}

/** The backend for host arrays: the one asked for, else `RLVR_BACKEND`, else cpu, else reference. */
export function selectBackend(wanted?: BackendName): Backend {
  if (wanted !== undefined) return named('backend', wanted);
  const fromEnvironment = process.env.RLVR_BACKEND;
  if (fromEnvironment) return named('RLVR_BACKEND', fromEnvironment as BackendName);
  const native = nativeBackend();
  return 'backend' in native ? native.backend : referenceBackend;
}

function named(argument: string, name: BackendName): Backend {
  if (!NAMES.includes(name)) {
    throw badArgument('ERR_BACKEND', argument, NAMES.map((n) => `'${n}'`).join(' or '), describe(name));
  }
  if (name === 'reference') return referenceBackend;
  const native = nativeBackend();
  if (name === 'cpu' && 'backend' in native) return native.backend;
  const reason = backends().find((info) => info.name === name)?.reason;
  throw new RlvrError('ERR_BACKEND', `${argument}: expected an available backend, got '${name}': ${reason}`);
}
