// A [T, V] array in device memory.
import { cudaCall, cudaPromise } from '../backend/cuda.js';
import type { DeviceMemory, DType, HostLogits } from '../backend/kernels.js';
import { badArgument, describe, RlvrError } from '../errors.js';
import { typedArray } from '../validate.js';
import type { Device } from './device.js';

/** Bytes of an element. */
export const ELEMENT_SIZES: Record<DType, number> = { f32: 4, bf16: 2, f16: 2 };

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
/** Makes a tensor. */
export let deviceTensor: (parts: Parts) => DeviceTensor;

/**
 * A [T, V] array of f32, bf16 or f16 in device memory, row t at element `t * rowStride`: logits for every loss, and where
 * their gradient goes. It comes from a {@link Device} (`upload`, `empty`, `wrap`). Its memory is given back by `dispose()`
 * (or a `using` declaration), at the latest when it is collected.
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
  /** Whose memory it is in. */
  readonly device: Device;
  /** [T, V], tokens, vocabulary. */
  readonly shape: readonly [rows: number, columns: number];
  /** Type of its elements. */
  readonly dtype: DType;
  /** Elements from one row to the next. */
  readonly rowStride: number;
  #memory: DeviceMemory | undefined;
  #owner: unknown;

  static {
    deviceTensor = (parts) => new DeviceTensor(parts);
    memoryOf = (name, tensor) => tensor.#live(name);
  }

  private constructor({ device, shape, dtype, rowStride, memory, owner }: Parts) {
    this.device = device;
    this.shape = Object.freeze([shape[0], shape[1]] as const);
    this.dtype = dtype;
    this.rowStride = rowStride;
    this.#memory = memory;
    this.#owner = owner;
  }

  /** What wrapped memory belongs to. */
  get owner(): unknown {
    return this.#owner;
  }

  #live(name: string): DeviceMemory {
    if (this.#memory && !this.device.disposed) return this.#memory;
    const what = this.#memory ? 'one of a disposed device' : 'a disposed one';
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
    return this.#memory === undefined;
  }

  /**
   * The elements as [T * V] contiguous values, after everything enqueued so far: a `Float32Array` for f32, the bits in a
   * `Uint16Array` for bf16 and f16. `out` is filled and returned if given. Await it before what writes to the tensor next.
   *
   * @throws RlvrError `ERR_DISPOSED`, `ERR_SHAPE`, `ERR_DTYPE`, `ERR_CUDA`.
   */
  async download<A extends HostLogits = HostLogits>(out?: A): Promise<A> {
    const { memory, array, copy } = this.#download(out);
    await cudaPromise(memory.readAsync(...copy));
    return array;
  }

  /** {@link DeviceTensor.download}, blocking. */
  downloadSync<A extends HostLogits = HostLogits>(out?: A): A {
    const { memory, array, copy } = this.#download(out);
    cudaCall(() => memory.read(...copy));
    return array;
  }

  #download<A extends HostLogits>(out: A | undefined) {
    const memory = this.#live('download');
    const [rows, columns] = this.shape;
    const array = (out ?? hostArray(this.dtype, rows * columns)) as A;
    const type = this.dtype === 'f32' ? 'Float32Array' : 'Uint16Array';
    if (typedArray('out', array, [type]).length !== rows * columns) {
      throw badArgument('ERR_SHAPE', 'out', `${rows * columns} elements (T * V)`, describe(array));
    }
    const copy = [array, rows, columns, columns, ELEMENT_SIZES[this.dtype], this.rowStride] as const;
    return { memory, array, copy };
  }

  /** Gives the memory back, once what was enqueued is done with it. Wrapped memory stays its owner's. */
  dispose(): void {
    if (!this.#memory) return;
    this.#memory.dispose();
    this.#memory = undefined;
    this.#owner = undefined;
  }

  /** As `dispose()`, for `using` declarations. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function hostArray(dtype: DType, length: number): HostLogits {
  return dtype === 'f32' ? new Float32Array(length) : new Uint16Array(length);
}
