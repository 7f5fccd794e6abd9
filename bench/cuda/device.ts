// The GPU as the benchmark sees it: the package's public device for the data, and next to it the addon's timers, which run
// a kernel many times between two CUDA events.
import { type NativeCuda, type NativeDevice, type NativeSession, nativeCuda } from '../../lib/backend/addon.js';
import { memoryOf } from '../../lib/cuda/device.js';
import { type Device, type DeviceTensor, openDevice } from '../../lib/cuda/index.js';
import type { KernelCall, KernelName } from '../../lib/kernels.js';

export interface Cuda {
  readonly native: NativeCuda;
  /** A device object, and so a stream, of its own: every use of it waits until the work is done. */
  readonly timing: NativeDevice;
  readonly device: Device;
}

type Enqueue = (session: NativeSession, args: KernelCall['args']) => void;
/** Milliseconds of one of `repeats` runs in a row. */
type TimeRuns = (session: NativeSession, args: KernelCall['args'], repeats: number, asGraph: boolean) => number;

/** The addon's `cuda` table with the timers that it exports for the benchmark alone, by name. */
interface KernelTable {
  readonly kernels: Record<string, Enqueue>;
  readonly timers: Partial<Record<`${KernelName}Time`, TimeRuns>>;
}

function tableOf({ native }: Cuda): KernelTable {
  const table: unknown = native;
  return { kernels: table as KernelTable['kernels'], timers: table as KernelTable['timers'] };
}

/** Throws, saying why, where there is no device. */
export function openCuda(): Cuda {
  const native = nativeCuda();
  if ('reason' in native) throw new Error(`no CUDA: ${native.reason}`);
  const { reason } = native.info(0);
  if (reason !== undefined) throw new Error(`no CUDA device: ${reason}`);
  return { native, timing: new native.Device(0, undefined), device: openDevice(0) };
}

/**
 * Runs `call`, which blocks and runs ops of the package, and keeps every kernel with the arguments that the package gave
 * it, so that exactly these can be timed.
 */
export function captureKernels<Result>(cuda: Cuda, call: () => Result): { result: Result; calls: KernelCall[] } {
  const { kernels, timers } = tableOf(cuda);
  const names = Object.keys(kernels).filter((name) => `${name}Time` in timers) as KernelName[];
  const originals = names.map((name) => kernels[name]);
  const calls: KernelCall[] = [];
  names.forEach((kernel, k) => {
    kernels[kernel] = (session, args) => {
      calls.push({ kernel, args } as KernelCall);
      originals[k](session, args);
    };
  });
  try {
    return { result: call(), calls };
  } finally {
    names.forEach((kernel, k) => {
      kernels[kernel] = originals[k];
    });
  }
}

/** The one kernel that `call` runs. */
export function captureOne<Result>(
  cuda: Cuda,
  kernel: KernelName,
  call: () => Result,
): { result: Result; call: KernelCall } {
  const { result, calls } = captureKernels(cuda, call);
  const [captured] = calls;
  if (calls.length === 1 && captured.kernel === kernel) return { result, call: captured };
  throw new Error(`expected ${kernel}, got ${calls.map((one) => one.kernel).join(', ') || 'no kernel'}`);
}

/**
 * Milliseconds of one run of a kernel, of `repeats` in a row, by events on the device. Two runs come before, untimed.
 * `asGraph`: replayed from one graph.
 */
export function timeKernel(cuda: Cuda, { kernel, args }: KernelCall, repeats: number, asGraph = false): number {
  const timeRuns = tableOf(cuda).timers[`${kernel}Time`];
  if (timeRuns === undefined) throw new Error(`the addon has no timer for ${kernel}`);
  const session = cuda.timing.session();
  try {
    return timeRuns(session, args, repeats, asGraph);
  } finally {
    session.close();
  }
}

/** Milliseconds of one copy of a whole tensor to another, within the device. One runs before, untimed. */
export function timeCopy({ timing }: Cuda, to: DeviceTensor, from: DeviceTensor, bytes: number, repeats: number) {
  return timing.timeCopy(memoryOf('to', to), memoryOf('from', from), bytes, repeats);
}
