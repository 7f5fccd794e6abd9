// A CUDA device, and the tensors in its memory. Each class needs the other, so they share a file.
import type { NativeCuda, NativeDevice } from '../backend/addon.js';
import { checkNotCapturing, cudaCall, cudaPromise, deviceBackend } from '../backend/cuda.js';
import { onThread } from '../backend/threads.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { type HostTensor, hostView, tensorShape } from '../host-tensor.js';
import {
  type Backend,
  type DeviceMemory,
  DTYPE_CODES,
  type DType,
  type DTypeName,
  type HostLogits,
  type HostMatrix,
} from '../kernels.js';
import { typedArray } from '../validate.js';
import { bytesOf, elementType, type ForeignMemory, foreignMemory } from './foreign-memory.js';
import { eventHandle } from './handles.js';
import { HeldMemory } from './held-memory.js';

interface Parts {
  device: Device;
  shape: readonly [rows: number, columns: number];
  dtype: DType;
  rowStride: number;
  memory: DeviceMemory;
  owner?: unknown;
}

/** The memory of a tensor that was not disposed. */
export let memoryOf: (name: string, tensor: DeviceTensor) => DeviceMemory;
/** Copies a host array, which an error calls `name`, into a tensor. */
let fill: (tensor: DeviceTensor, name: string, host: HostMatrix) => Promise<void>;
/** Makes a tensor. */
export let deviceTensor: (parts: Parts) => DeviceTensor;

/** The addon's side of an open device. */
export let nativeDeviceOf: (device: Device) => NativeDevice;
let backendOf: (device: Device) => Backend;
/** Refuses a device that cannot copy now. */
let checkReady: (device: Device) => void;

/** The backend of an open device. */
export function deviceBackendOf(device: Device): Backend {
  return backendOf(device);
}

/**
 * A CUDA device with a stream. Losses and ops on its tensors are enqueued on that stream, in the order of the calls, and
 * so are the blocking methods below. `upload` and `download` copy at some time before their promise settles: await them
 * before other calls on the same tensor. Work of another library on a stream of its own must be waited for by the caller.
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
    checkReady = (device) => device.#ready();
    nativeDeviceOf = (device) => device.#ready();
  }

  /** Use {@link openDevice}. */
  constructor(native: NativeCuda, index: number, stream: bigint | undefined, owner: unknown) {
    const info = native.info(index);
    if (info.reason !== undefined) {
      throw new RlvrError('ERR_BACKEND', `index: expected a CUDA device, got ${index}: ${info.reason}`);
    }
    const device = cudaCall(() => new native.Device(index, stream, owner));
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

  /** For calls that allocate, copy or wait. */
  #ready(): NativeDevice {
    const native = this.#live();
    checkNotCapturing('device', native);
    return native;
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
   * Copies a host array into a contiguous tensor: `out`, if that is given, else a new one.
   *
   * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_DISPOSED`, `ERR_BACKEND`, `ERR_CUDA`.
   */
  async upload(host: HostTensor, options?: { out?: DeviceTensor | undefined }): Promise<DeviceTensor> {
    const { tensor, matrix } = this.#upload(host, options?.out);
    await fill(tensor, 'host.data', matrix);
    return tensor;
  }

  /** {@link Device.upload}, blocking. */
  uploadSync(host: HostTensor, options?: { out?: DeviceTensor | undefined }): DeviceTensor {
    const { tensor, matrix } = this.#upload(host, options?.out);
    cudaCall(() => memoryOf('out', tensor).write(matrix, tensor.rowStride));
    return tensor;
  }

  #upload(host: HostTensor, out: DeviceTensor | undefined) {
    this.#ready();
    const view = hostView('host', host);
    const { tokens: rows, vocab: columns } = view;
    const tensor = out ?? this.empty([rows, columns], view.dtypeName);
    if (!(tensor instanceof DeviceTensor)) throw badArgument('ERR_DTYPE', 'out', 'a DeviceTensor', describe(tensor));
    if (tensor.device !== this) throw badArgument('ERR_BACKEND', 'out', 'a tensor of this device', 'one of another');
    if (tensor.dtype !== view.dtypeName) throw badArgument('ERR_DTYPE', 'out', view.dtypeName, tensor.dtype);
    if (tensor.shape[0] !== rows || tensor.shape[1] !== columns) {
      throw badArgument('ERR_SHAPE', 'out', `shape [${rows}, ${columns}]`, `[${tensor.shape}]`);
    }
    const matrix: HostMatrix = { array: view.data, dtype: view.dtype, rows, width: columns, stride: view.rowStride };
    return { tensor, matrix };
  }

  /**
   * A contiguous tensor with uninitialised contents.
   *
   * @throws RlvrError `ERR_SHAPE`, `ERR_RANGE`, `ERR_DISPOSED`; `ERR_CUDA` where there is not enough memory.
   */
  empty(shape: readonly [rows: number, columns: number], name: DTypeName = 'f32'): DeviceTensor {
    const native = this.#ready();
    const [rows, columns] = tensorShape('shape', shape);
    const { dtype, size } = elementType(name);
    const bytes = bytesOf(rows * columns, size);
    const memory = cudaCall(() => native.allocate(bytes));
    return deviceTensor({ device: this, shape: [rows, columns], dtype, rowStride: columns, memory });
  }

  /**
   * A tensor on memory of another library, which is neither copied nor ever freed. Work that the library enqueued on another
   * stream must have finished, or be ordered before this device's stream, as `stream` does.
   *
   * @throws RlvrError `ERR_SHAPE`, `ERR_RANGE`, `ERR_DISPOSED`; `ERR_BACKEND` for a pointer outside this device's memory;
   * `ERR_CUDA` for a stream that cannot be waited for: of another device, being captured into a graph, gone.
   */
  wrap(foreign: ForeignMemory): DeviceTensor {
    const native = this.#live();
    const { pointer, shape, dtype, rowStride, bytes, stream, owner } = foreignMemory(foreign);
    if (stream !== undefined) checkNotCapturing('device', native);
    const memory = native.wrap(pointer, bytes);
    if (typeof memory === 'string')
      throw badArgument('ERR_BACKEND', 'pointer', `memory of device ${this.index}`, memory);
    if (stream !== undefined) cudaCall(() => native.waitStream(stream));
    return deviceTensor({ device: this, shape, dtype, rowStride, memory, owner });
  }

  /**
   * Waits for everything enqueued on the stream.
   *
   * @throws RlvrError `ERR_DISPOSED`, `ERR_CUDA`.
   */
  async synchronize(): Promise<void> {
    const native = this.#ready();
    await onThread(() => cudaPromise(native.synchronizeAsync()));
  }

  /** {@link Device.synchronize}, blocking. */
  synchronizeSync(): void {
    const native = this.#ready();
    cudaCall(() => native.synchronize());
  }

  /**
   * Lets everything enqueued from now on wait for an event of another library (a `cudaEvent_t`, as a bigint), as it was last
   * recorded: so does this device's work come after that of another stream.
   *
   * @throws RlvrError `ERR_RANGE`, `ERR_DISPOSED`; `ERR_CUDA`, also for an event that is gone.
   */
  waitEvent(event: bigint): void {
    const native = this.#ready();
    cudaCall(() => native.waitEvent(eventHandle(event)));
  }

  /**
   * Records an event of another library, made on this device, behind everything enqueued so far: another stream that waits for it
   * comes after this device's work.
   *
   * @throws RlvrError `ERR_RANGE`, `ERR_DISPOSED`; `ERR_CUDA`, also for an event that is gone or of another device.
   */
  recordEvent(event: bigint): void {
    const native = this.#ready();
    cudaCall(() => native.recordEvent(eventHandle(event)));
  }

  /**
   * Gives the GPU back the memory that freed tensors and calls left. Otherwise this package keeps it for its next calls, out of
   * the reach of others. Waits for everything enqueued so far. A call that finds no memory does this by itself, once.
   *
   * @throws RlvrError `ERR_DISPOSED`, `ERR_CUDA`.
   */
  async trim(): Promise<void> {
    const native = this.#ready();
    await onThread(() => cudaPromise(native.trimAsync()));
  }

  /** {@link Device.trim}, blocking. */
  trimSync(): void {
    const native = this.#ready();
    cudaCall(() => native.trim());
  }

  /** Closes the device: its tensors can no longer be used, and keep their memory until they are disposed of. */
  dispose(): void {
    this.#native = undefined;
  }

  /** As `dispose()`, for `using` declarations. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * A [T, V] array of f32, bf16 or f16 in device memory, row t at element `t * rowStride`: logits for every loss, and where
 * their gradient goes. It comes from a {@link Device} (`upload`, `empty`, `wrap`). `dispose()` (or a `using` declaration)
 * frees its memory; undisposed tensors are freed on garbage collection.
 *
 * @example
 * ```ts
 * import { tokenLogProbs } from 'rlvr-kernels';
 * import { openDevice } from 'rlvr-kernels/cuda';
 *
 * const device = openDevice(0);
 * const tensor = await device.upload({ data: Float32Array.of(0, 0, 2, 0), shape: [2, 2] });
 * const { logProbs } = await tokenLogProbs({ logits: tensor, targets: Int32Array.of(0, 0) });
 * console.log(logProbs); // => Float64Array(2) [ -0.693, -0.127 ]
 * console.log(await tensor.download()); // => Float32Array(4) [ 0, 0, 2, 0 ]
 * tensor.dispose();
 * device.dispose();
 * ```
 */
export class DeviceTensor {
  /** The device that holds its memory. */
  readonly device: Device;
  /** [T, V], tokens, vocabulary. */
  readonly shape: readonly [rows: number, columns: number];
  /** Type of its elements. */
  readonly dtype: DType;
  /** Elements from one row to the next. */
  readonly rowStride: number;
  #held: HeldMemory;

  /** What `instanceof` asks: a Proxy of a tensor, or an object made from this prototype, has no memory. */
  static [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && #held in value;
  }

  static {
    deviceTensor = (parts) => new DeviceTensor(parts);
    memoryOf = (name, tensor) => tensor.#live(name);
    fill = (tensor, name, host) => tensor.#transfer(name, host, 'writeAsync');
  }

  private constructor({ device, shape, dtype, rowStride, memory, owner }: Parts) {
    this.device = device;
    this.shape = Object.freeze([shape[0], shape[1]] as const);
    this.dtype = dtype;
    this.rowStride = rowStride;
    this.#held = new HeldMemory(memory, owner);
  }

  /** What wrapped memory belongs to. */
  get owner(): unknown {
    return this.#held.owner;
  }

  #live(name: string): DeviceMemory {
    const { memory } = this.#held;
    if (memory && !this.device.disposed) return memory;
    const what = memory ? 'one of a disposed device' : 'a disposed one';
    throw new RlvrError('ERR_DISPOSED', `${name}: expected a DeviceTensor with its memory, got ${what}`);
  }

  /**
   * Address of the first element, for other libraries on the same device and stream.
   *
   * @throws RlvrError `ERR_DISPOSED`.
   */
  get pointer(): bigint {
    return this.#live('pointer').pointer;
  }

  /** Whether `dispose()` was called. */
  get disposed(): boolean {
    return this.#held.memory === undefined;
  }

  /**
   * The elements as [T * V] contiguous values, after everything enqueued so far: a `Float32Array` for f32, the bits in a
   * `Uint16Array` for bf16 and f16. `out` is filled and returned if given. Await it before the next call that writes to the tensor.
   *
   * @throws RlvrError `ERR_DISPOSED`, `ERR_SHAPE`, `ERR_DTYPE`, `ERR_CUDA`.
   */
  async download<A extends HostLogits = HostLogits>(out?: A): Promise<A> {
    const { array, matrix } = this.#download(out);
    await this.#transfer('out', matrix, 'readAsync');
    return array;
  }

  /** {@link DeviceTensor.download}, blocking. */
  downloadSync<A extends HostLogits = HostLogits>(out?: A): A {
    const { memory, array, matrix } = this.#download(out);
    cudaCall(() => memory.read(matrix, this.rowStride));
    return array;
  }

  #download<A extends HostLogits>(out: A | undefined) {
    const memory = this.#live('download');
    checkReady(this.device);
    const [rows, columns] = this.shape;
    const array = (out ?? hostArray(this.dtype, rows * columns)) as A;
    const type = this.dtype === 'f32' ? 'Float32Array' : 'Uint16Array';
    const view = typedArray('out', array, [type]);
    if (view.length !== rows * columns) {
      throw badArgument('ERR_SHAPE', 'out', `${rows * columns} elements (T * V)`, describe(array));
    }
    const matrix = { array: view, dtype: DTYPE_CODES[this.dtype], rows, width: columns, stride: columns };
    return { memory, array, matrix };
  }

  async #transfer(name: string, host: HostMatrix, method: 'writeAsync' | 'readAsync'): Promise<void> {
    this.#live('out');
    await this.#held.transfer(name, host, this.rowStride, method);
  }

  /** Frees the memory, once the work that was enqueued is done with it. Wrapped memory remains its owner's. */
  dispose(): void {
    this.#held.dispose();
  }

  /** As `dispose()`, for `using` declarations. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function hostArray(dtype: DType, length: number): HostLogits {
  return dtype === 'f32' ? new Float32Array(length) : new Uint16Array(length);
}
