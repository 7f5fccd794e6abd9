// The GPU as the benchmark sees it: the package's public device for data, and the addon's timers beside it, which run a
// kernel many times between two CUDA events.
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { nativeCuda } from '../../dist/lib/backend/cuda.js';
import { memoryOf } from '../../dist/lib/cuda/device.js';
import { openDevice } from '../../dist/lib/cuda/index.js';

/**
 * @typedef {import('../../dist/lib/backend/addon.js').NativeCuda} NativeCuda
 * @typedef {import('../../dist/lib/backend/addon.js').NativeSession} NativeSession
 * @typedef {import('../../dist/lib/kernels.js').DeviceMemory} DeviceMemory
 * @typedef {import('../../dist/lib/kernels.js').KernelCall} KernelCall
 * @typedef {import('../../dist/lib/cuda/index.js').Device} Device
 * @typedef {import('../../dist/lib/cuda/index.js').DeviceTensor} DeviceTensor
 * @typedef {{ session(): NativeSession, timeCopy(to: DeviceMemory, from: DeviceMemory, bytes: number, repeats: number): number }} TimingDevice
 * @typedef {(session: NativeSession, args: KernelCall['args'], repeats: number, asGraph: boolean) => number} KernelTimer
 * @typedef {(session: NativeSession, args: KernelCall['args']) => void} Enqueue
 * @typedef {object} Cuda
 * @property {NativeCuda} native
 * @property {TimingDevice} timing a device object, and so a stream, of its own: every use of it waits until it is done
 * @property {Device} device
 */

/** @returns {Cuda} Throws, saying why, where there is no device. */
export function openCuda() {
  const native = nativeCuda();
  if ('reason' in native) throw new Error(`no CUDA: ${native.reason}`);
  const { reason } = native.info(0);
  if (reason !== undefined) throw new Error(`no CUDA device: ${reason}`);
  const timing = /** @type {TimingDevice} */ (/** @type {unknown} */ (new native.Device(0, undefined)));
  return { native, timing, device: openDevice(0) };
}

/**
 * Runs `call`, which runs ops of the package, and keeps every kernel with the arguments that the package gave it, so that
 * exactly these can be timed.
 * @template T
 * @param {Cuda} cuda
 * @param {() => T} call one that blocks
 * @returns {{ result: T, calls: KernelCall[] }}
 */
export function captureKernels({ native }, call) {
  const table = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (native));
  const kernels = Object.keys(table).filter((name) => typeof table[`${name}Time`] === 'function');
  const originals = kernels.map((name) => /** @type {Enqueue} */ (table[name]));
  /** @type {KernelCall[]} */
  const calls = [];
  kernels.forEach((kernel, k) => {
    table[kernel] = (/** @type {NativeSession} */ session, /** @type {KernelCall['args']} */ args) => {
      calls.push(/** @type {KernelCall} */ ({ kernel, args }));
      originals[k](session, args);
    };
  });
  try {
    return { result: call(), calls };
  } finally {
    kernels.forEach((kernel, k) => {
      table[kernel] = originals[k];
    });
  }
}

/**
 * Milliseconds of one run of a kernel, of `repeats` in a row, by events on the device. Two runs come before, untimed.
 * @param {Cuda} cuda @param {KernelCall} call @param {number} repeats @param {boolean} [asGraph] replayed from one graph
 */
export function timeKernel({ native, timing }, { kernel, args }, repeats, asGraph = false) {
  const table = /** @type {Record<string, KernelTimer>} */ (/** @type {unknown} */ (native));
  const session = timing.session();
  try {
    return table[`${kernel}Time`](session, args, repeats, asGraph);
  } finally {
    session.close();
  }
}

/**
 * Milliseconds of one copy of a whole tensor to another, within the device. One runs before, untimed.
 * @param {Cuda} cuda @param {DeviceTensor} to @param {DeviceTensor} from @param {number} bytes @param {number} repeats
 */
export function timeCopy({ timing }, to, from, bytes, repeats) {
  return timing.timeCopy(memoryOf('to', to), memoryOf('from', from), bytes, repeats);
}

/**
 * Collects devices that nothing refers to any more, which gives the memory that their pools kept to the next process. That of
 * tensors is given back before, by dispose().
 */
export async function collectDevices() {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  for (let i = 0; i < 3; ++i) {
    collect();
    await sleep(20); // finalizers run between tasks
  }
}
