import { nativeCuda } from '../backend/addon.js';
import { RlvrError } from '../errors.js';
import { namesOf, takeOptions } from '../options.js';
import { finiteNumber, objectArgument } from '../validate.js';
import { Device } from './device.js';
import { streamHandle } from './handles.js';

/** Options of {@link openDevice}. */
export interface DeviceOptions {
  /**
   * A `cudaStream_t` of another library, on this device, to enqueue on: 0n or 1n (`cudaStreamLegacy`) for the default stream.
   * 2n (`cudaStreamPerThread`) is refused: it is another stream on every thread, and copies run on threads of libuv. Default:
   * a new stream.
   */
  stream?: bigint | undefined;
  /** What must not be garbage-collected while the stream is in use. Kept alive until the device's last memory is freed. */
  owner?: unknown;
}

/**
 * Opens a CUDA device, for tensors in its memory. `index` counts the devices that the process sees, from 0.
 *
 * @example
 * ```ts
 * import { conspo } from 'rlvr-kernels';
 * import { openDevice } from 'rlvr-kernels/cuda';
 *
 * const device = openDevice(0);
 * const logits = await device.upload({ data: Float32Array.of(2, 0, 0, 0, 2, 0, 0, 0, 2), shape: [3, 3] });
 * const { loss, gradLogits } = await conspo(
 *   {
 *     logits, // a DeviceTensor: the loss runs where it is
 *     targets: Int32Array.of(0, 1, 2),
 *     cuSeqlens: Int32Array.of(0, 1, 3),
 *     cuGroups: Int32Array.of(0, 2),
 *     rewards: Float32Array.of(1, 0),
 *   },
 *   { gradient: 'in-place' },
 * );
 * console.log(loss, gradLogits === logits); // => 0.069 true
 * logits.dispose();
 * device.dispose();
 * ```
 *
 * @throws RlvrError `ERR_BACKEND`, saying why, when there is no such device or this build has no CUDA; `ERR_RANGE`;
 * `ERR_CUDA`, also for a stream of another device, one that is being captured into a graph, and one that CUDA knows to be gone.
 */
export function openDevice(index = 0, options: DeviceOptions = {}): Device {
  finiteNumber('index', index, { min: 0, max: 2 ** 16, integer: true });
  const names = namesOf<DeviceOptions>({ stream: true, owner: true });
  const { stream, owner }: DeviceOptions = takeOptions('openDevice', objectArgument('options', options), names);
  streamHandle(stream);
  const native = nativeCuda();
  if ('reason' in native) throw new RlvrError('ERR_BACKEND', `CUDA is not available: ${native.reason}`);
  return new Device(native, index, stream, owner);
}
