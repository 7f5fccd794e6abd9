// Memory of another library: what a caller says of it, checked.
import { badArgument, describe } from '../errors.js';
import { LONGEST_ROW, tensorShape } from '../host-tensor.js';
import { DTYPE_NAMES, type DType, type DTypeName, dtypeNamed } from '../kernels.js';
import { finiteNumber, objectArgument, oneOf } from '../validate.js';
import { streamHandle } from './handles.js';

const ELEMENT_SIZES: Record<DType, number> = { f32: 4, bf16: 2, f16: 2 };

/** Memory of another library, for `wrap` of a device. */
export interface ForeignMemory {
  /** Address of the first element, in this device's memory and aligned to its elements. */
  pointer: bigint;
  /** [T, V], tokens, vocabulary. */
  shape: readonly [rows: number, columns: number];
  /** Type of its elements. */
  dtype: DTypeName;
  /** Elements from one row to the next, at least V. Default V. */
  rowStride?: number | undefined;
  /**
   * A `cudaStream_t` of this device (0n or 1n: its default stream) on which the memory is being written: what is enqueued there
   * now comes before what this device does from now on. Without it, waiting is up to you.
   */
  stream?: bigint | undefined;
  /** Kept alive as long as the tensor: the object that must not be garbage-collected while its memory is in use. */
  owner?: unknown;
}

/** An element type by name, which may be anything, and the bytes of an element. */
export function elementType(name: DTypeName): { dtype: DType; size: number } {
  const dtype = dtypeNamed(oneOf('dtype', name, DTYPE_NAMES));
  return { dtype, size: ELEMENT_SIZES[dtype] };
}

/** Bytes of so many elements, no more than an address can tell apart. */
export function bytesOf(elements: number, size: number): number {
  return finiteNumber('shape', elements * size, { max: 2 ** 48 });
}

/** A description of memory with its defaults, and how many bytes it spans. Throws for one that cannot be. */
export function foreignMemory(foreign: ForeignMemory) {
  const { pointer, shape, dtype: name, rowStride: given, stream, owner } = objectArgument('foreign', foreign);
  if (typeof pointer !== 'bigint' || pointer <= 0n || pointer >= 2n ** 64n) {
    throw badArgument('ERR_RANGE', 'pointer', 'an address as a bigint', describe(pointer));
  }
  const [rows, columns] = tensorShape('shape', shape);
  const { dtype, size } = elementType(name);
  const rowStride = finiteNumber('rowStride', given ?? columns, { min: columns, max: LONGEST_ROW, integer: true });
  if (pointer % BigInt(size) !== 0n) {
    throw badArgument('ERR_RANGE', 'pointer', `a multiple of ${size}, the bytes of a ${dtype}`, describe(pointer));
  }
  const bytes = bytesOf(rows === 0 ? 0 : (rows - 1) * rowStride + columns, size);
  streamHandle(stream);
  return { pointer, shape: [rows, columns] as const, dtype, rowStride, bytes, stream, owner };
}
