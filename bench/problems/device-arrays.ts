// The [T, V] arrays in the memory of the first CUDA device, and the device's yardstick: one copy to another within it.

import { type NativeDevice, nativeCuda } from '../../lib/backend/addon.js';
import { memoryOf } from '../../lib/cuda/device.js';
import { type Device, type DeviceTensor, openDevice } from '../../lib/cuda/index.js';
import type { DType } from '../../lib/index.js';
import { sharedParts, slotsOf, type TokenArrays } from './arrays.js';
import type { TokenProblem } from './data.js';

export interface DeviceArrays extends TokenArrays<DeviceTensor> {
  dispose(): void;
}

/** More than the L2 of any GPU. */
const CACHE_BYTES = 2 ** 27;
export const COPIES = 5; // timed in a row

let opened: { device: Device; copier: NativeDevice } | undefined;

/** The public device makes the tensors. Copies within it, which the public API does not offer, have a stream of their own. */
function open() {
  const device = opened?.device ?? openDevice(0); // says why, if there is none
  const native = nativeCuda();
  if ('reason' in native) throw new Error(native.reason);
  opened ??= { device, copier: new native.Device(0, undefined) };
  return opened;
}

/** Milliseconds of one of `repeats` copies in a row, by events on the device. Waits until they are done. */
export function copyOnDevice(to: DeviceTensor, from: DeviceTensor, bytes: number, repeats: number): number {
  return open().copier.timeCopy(memoryOf('to', to), memoryOf('from', from), bytes, repeats);
}

export function createDeviceArrays(problem: TokenProblem, dtype: DType): DeviceArrays {
  const { device } = open();
  const { tokens, vocab } = problem.shape;
  const shared = sharedParts(problem, dtype);
  const { source, bytes } = shared;
  const slots = slotsOf(problem.shape, dtype, CACHE_BYTES);
  const made: DeviceTensor[] = [];
  const dispose = () => {
    for (const tensor of made) tensor.dispose();
  };
  const empty = () => {
    made.push(device.empty([tokens, vocab], dtype));
    return made[made.length - 1];
  };
  try {
    const first = device.uploadSync({ data: source, shape: [tokens, vocab], dtype }, { out: empty() });
    const copies = (given: DeviceTensor[]) => {
      while (given.length < slots) {
        const tensor = empty();
        copyOnDevice(tensor, first, bytes, 1);
        given.push(tensor);
      }
      return given;
    };
    const arrays = { logits: copies([first]), work: copies([]), out: copies([]) };
    return {
      ...shared,
      ...arrays,
      slots,
      restore: (slot) => void copyOnDevice(arrays.work[slot], arrays.logits[slot], bytes, 1),
      settle: () => device.synchronizeSync(),
      gradient: (array, slot) => arrays[array][slot].downloadSync(),
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}
