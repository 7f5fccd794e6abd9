// Communicators that can add up what is in device memory, without bringing it to the host.
import type { DeviceMemory, DTypeCode } from '../kernels.js';
import type { Communicator } from './communicator.js';

/** Parts of a sum, one on each rank, and where the sum goes. */
export interface DeviceSum {
  part: DeviceMemory; // [rows, width] float32, contiguous; overwritten
  to: DeviceMemory; // row r at element r * stride
  dtype: DTypeCode; // of `to`
  rows: number;
  width: number;
  stride: number;
  accumulate: boolean; // the sum is added to what is there
}

/** What adds up on a device, the same on all ranks: returns the first row of `to` that is not finite then, or -1. */
export interface DeviceSums {
  readonly device: object; // a Device
  sum(sum: DeviceSum): Promise<number>;
  sumSync(sum: DeviceSum): number;
}

const known = new WeakMap<Communicator, DeviceSums>();

/** Makes it known that a communicator can do that. */
export function addsUpOnDevice(communicator: Communicator, sums: DeviceSums): void {
  known.set(communicator, sums);
}

/** What a communicator has for that, if it has. */
export function deviceSumsOf(communicator: Communicator): DeviceSums | undefined {
  return known.get(communicator);
}
