// Opening a device, and making tensors in its memory.
import { cudaCall, cudaPromise, deviceBackend, type NativeCuda, type NativeDevice } from '../backend/cuda.js';
import { DTYPE_CODES, type DType } from '../backend/kernels.js';
import { nativeCuda } from '../backend/native.js';
import type { Backend } from '../backend/select.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { type HostTensor, hostView, tensorShape } from '../logits.js';
import { finiteNumber, objectArgument, oneOf } from '../validate.js';
import { DeviceTensor, deviceTensor, ELEMENT_SIZES, memoryOf } from './device-tensor.js';

/** Options of {@link openDevice}. */
export interface DeviceOptions {
  /** A `cudaStream_t` of another library (0n: the default stream) to enqueue on. Default: a new stream. */
  stream?: bigint;
}

/** Memory of another library, for {@link Device.wrap}. */
export interface ForeignMemory {
  /** Address of the first element, in this device's memory and aligned to its elements. */
  pointer: bigint;
  /** [T, V], tokens, vocabulary. */
  shape: readonly [rows: number, columns: number];
  /** Type of its elements. */
  dtype: DType;
  /** Elements from one row to the next, at least V. Default V. */
  rowStride?: number;
  /** Kept alive as long as the tensor: what must not be collected while its memory is in use. */
  owner?: unknown;
}

let backendOf: (device: Device) => Backend;

/** The backend of an open device. */
export function deviceBackendOf(device: Device): Backend {
  return backendOf(device);
}

/**
 * A CUDA device with a stream. Losses and ops on its tensors are enqueued on that stream, in the order of the calls, and
 * so is everything below that blocks. `upload` and `download` copy at some time before their promise is settled: await
 * them before other calls on the same tensor. What another library does on a stream of its own has to be waited for by the
 * caller.
 *
 * @example
 * ```ts
 * import { openDevice } from 'rlvr-kernels/cuda';
 *
 * const device = openDevice(0);
 * const tensor = device.empty([4, 1000], 'bf16'); // contents not set; upload copies, wrap takes memory of another library
 * await device.upload({ data: new Uint16Array(4000), shape: [4, 1000], dtype: 'bf16' }, { out: tensor });
 * const view = device.wrap({ pointer: tensor.pointer, shape: [4, 500], rowStride: 1000, dtype: 'bf16', owner: tensor });
 * console.log(view.shape, view.rowStride, device.allocatedBytes >= 8000); // => [ 4, 500 ] 1000 true
 * await device.synchronize();
 * tensor.dispose();
 * device.dispose();
 * ```
 */
export class Device {
  /** Its number among the devices that the process sees, from 0. */
  readonly index: number;
  /** Name of the device. */
  readonly name: string;
  /** Compute capability, major.minor. */
  readonly computeCapability: string;
  /** Memory of the device in bytes. */
  readonly memory: number;
  #native: NativeDevice | undefined;
  #backend: Backend;

  static {
    backendOf = (device) => {
      device.#live();
      return device.#backend;
    };
  }

  /** Use {@link openDevice}. */
  constructor(native: NativeCuda, index: number, stream: bigint | undefined) {
    const info = native.info(index);
    if (info.reason !== undefined) {
      throw new RlvrError('ERR_BACKEND', `index: expected a CUDA device, got ${index}: ${info.reason}`);
    }
    const device = cudaCall(() => new native.Device(index, stream));
    this.index = index;
    this.name = info.device;
    this.computeCapability = info.computeCapability;
    this.memory = info.memory;
    this.#native = device;
    this.#backend = deviceBackend(native, () => device);
  }

  #live(): NativeDevice {
    if (this.#native) return this.#native;
    throw new RlvrError('ERR_DISPOSED', 'device: expected an open Device, got a disposed one');
  }

  /** Bytes of device memory that tensors and calls of this device hold. */
  get allocatedBytes(): number {
    return this.#live().allocatedBytes;
  }

  /** Whether `dispose()` was called. */
  get disposed(): boolean {
    return this.#native === undefined;
  }

  /**
   * A tensor with a copy of a host array, contiguous. `out` is written and returned if given.
   *
   * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_DISPOSED`, `ERR_BACKEND`, `ERR_CUDA`.
   */
  async upload(host: HostTensor, options?: { out?: DeviceTensor }): Promise<DeviceTensor> {
    const { tensor, copy } = this.#upload(host, options?.out);
    await cudaPromise(memoryOf('out', tensor).writeAsync(...copy));
    return tensor;
  }

  /** {@link Device.upload}, blocking. */
  uploadSync(host: HostTensor, options?: { out?: DeviceTensor }): DeviceTensor {
    const { tensor, copy } = this.#upload(host, options?.out);
    cudaCall(() => memoryOf('out', tensor).write(...copy));
    return tensor;
  }

  #upload(host: HostTensor, out: DeviceTensor | undefined) {
    this.#live();
    const view = hostView('host', host);
    const { tokens: rows, vocab: columns } = view;
    const tensor = out ?? this.empty([rows, columns], view.dtypeName);
    if (!(tensor instanceof DeviceTensor)) throw badArgument('ERR_DTYPE', 'out', 'a DeviceTensor', describe(tensor));
    if (tensor.device !== this) throw badArgument('ERR_BACKEND', 'out', 'a tensor of this device', 'one of another');
    if (tensor.dtype !== view.dtypeName) throw badArgument('ERR_DTYPE', 'out', view.dtypeName, tensor.dtype);
    if (tensor.shape[0] !== rows || tensor.shape[1] !== columns) {
      throw badArgument('ERR_SHAPE', 'out', `shape [${rows}, ${columns}]`, `[${tensor.shape}]`);
    }
    const copy = [view.data, rows, columns, view.rowStride, ELEMENT_SIZES[view.dtypeName], tensor.rowStride] as const;
    return { tensor, copy };
  }

  /**
   * A contiguous tensor whose contents are not set.
   *
   * @throws RlvrError `ERR_SHAPE`, `ERR_RANGE`, `ERR_DISPOSED`; `ERR_CUDA` where the memory does not suffice.
   */
  empty(shape: readonly [rows: number, columns: number], dtype: DType = 'f32'): DeviceTensor {
    const native = this.#live();
    const [rows, columns] = tensorShape('shape', shape);
    const size = ELEMENT_SIZES[oneOf('dtype', dtype, Object.keys(DTYPE_CODES) as DType[])];
    const bytes = finiteNumber('shape', rows * columns * size, { max: 2 ** 48 });
    const memory = cudaCall(() => native.allocate(bytes));
    return deviceTensor({ device: this, shape: [rows, columns], dtype, rowStride: columns, memory });
  }

  /**
   * A tensor on memory of another library, which is neither copied nor ever freed. What that library enqueued on another
   * stream must be done, or ordered before this device's stream.
   *
   * @throws RlvrError `ERR_SHAPE`, `ERR_RANGE`, `ERR_DISPOSED`; `ERR_BACKEND` for a pointer that is not to this device's memory.
   */
  wrap(foreign: ForeignMemory): DeviceTensor {
    const native = this.#live();
    const { pointer, shape, dtype, rowStride, owner } = objectArgument('foreign', foreign);
    if (typeof pointer !== 'bigint' || pointer <= 0n || pointer >= 2n ** 64n) {
      throw badArgument('ERR_RANGE', 'pointer', 'an address as a bigint', describe(pointer));
    }
    const [rows, columns] = tensorShape('shape', shape);
    const size = ELEMENT_SIZES[oneOf('dtype', dtype, Object.keys(DTYPE_CODES) as DType[])];
    const stride = finiteNumber('rowStride', rowStride ?? columns, { min: columns, integer: true });
    if (pointer % BigInt(size) !== 0n) {
      throw badArgument('ERR_RANGE', 'pointer', `a multiple of ${size}, the bytes of a ${dtype}`, describe(pointer));
    }
    const elements = rows === 0 ? 0 : (rows - 1) * stride + columns;
    const bytes = finiteNumber('shape', elements * size, { max: 2 ** 48 });
    const memory = native.wrap(pointer, bytes);
    if (typeof memory === 'string')
      throw badArgument('ERR_BACKEND', 'pointer', `memory of device ${this.index}`, memory);
    return deviceTensor({ device: this, shape: [rows, columns], dtype, rowStride: stride, memory, owner });
  }

  /**
   * Waits for everything enqueued on the stream.
   *
   * @throws RlvrError `ERR_DISPOSED`, `ERR_CUDA`.
   */
  async synchronize(): Promise<void> {
    const native = this.#live();
    await cudaPromise(native.synchronizeAsync());
  }

  /** {@link Device.synchronize}, blocking. */
  synchronizeSync(): void {
    const native = this.#live();
    cudaCall(() => native.synchronize());
  }

  /** Closes the device: its tensors cannot be used any more, and keep their memory until they are disposed. */
  dispose(): void {
    this.#native = undefined;
  }

  /** As `dispose()`, for `using` declarations. */
  [Symbol.dispose](): void {
    this.dispose();
  }
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
 * `ERR_CUDA`.
 */
export function openDevice(index = 0, options: DeviceOptions = {}): Device {
  finiteNumber('index', index, { min: 0, max: 2 ** 16, integer: true });
  const { stream } = objectArgument('options', options);
  if (stream !== undefined && (typeof stream !== 'bigint' || stream < 0n || stream >= 2n ** 64n)) {
    throw badArgument('ERR_RANGE', 'stream', 'a cudaStream_t as a bigint', describe(stream));
  }
  const native = nativeCuda();
  if ('reason' in native) throw new RlvrError('ERR_BACKEND', `CUDA is not available: ${native.reason}`);
  return new Device(native, index, stream);
}
