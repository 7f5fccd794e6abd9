// A [T, V] array in host memory, with its shape.
import { badArgument, describe, isArray, tag } from './errors.js';
import {
  DTYPE_CODES,
  DTYPE_NAMES,
  type DType,
  type DTypeCode,
  type DTypeName,
  dtypeNamed,
  type HostLogits,
} from './kernels.js';
import { finiteNumber, objectArgument, oneOf, typedArray } from './validate.js';

/** A [T, V] array with its shape, for 16-bit data and for rows with padding. */
export interface HostTensor {
  /** f32: `Float32Array`. bf16 and f16: the bits in a `Uint16Array` (or, for f16, a `Float16Array` where there is one). */
  data: Float32Array | Uint16Array;
  /** [T, V], tokens, vocabulary. */
  shape: readonly [tokens: number, vocab: number];
  /** Default: f32 for a `Float32Array`, f16 for a `Float16Array`; a `Uint16Array` needs it. */
  dtype?: DTypeName | undefined;
  /** Elements from one row to the next, at least V. Default V. */
  rowStride?: number | undefined;
}

/** What is made in the form of a tensor: a dtype that it has in full may be its short name there. */
export type LikeTensor<T> = T extends { dtype: Exclude<DTypeName, DType> }
  ? Omit<T, 'dtype'> & { dtype: DTypeName }
  : T;

/** A validated {@link HostTensor}. */
export interface HostView {
  data: HostLogits;
  dtype: DTypeCode;
  dtypeName: DType;
  tokens: number;
  vocab: number;
  rowStride: number;
  source: HostTensor; // what the user gave
}

export const HALF_ARRAY = 'Float16Array';

/** The longest row, with its padding, in elements: where there are no rows, or one, no memory limits it. */
export const LONGEST_ROW = 2 ** 48;

/** Checks a host tensor. */
export function hostView(name: string, value: unknown, dimensions = '[T, V]'): HostView {
  const tensor = objectArgument(name, value as HostTensor);
  const { data: given, dtype: wanted, shape, rowStride: stride } = tensor; // each once: a class may have them as getters
  const { data, dtype } = tensorData(name, given, wanted);
  const [tokens, vocab] = tensorShape(`${name}.shape`, shape, dimensions);
  const padded = stride === undefined ? vocab : stride;
  const rowStride = finiteNumber(`${name}.rowStride`, padded, { min: vocab, max: LONGEST_ROW, integer: true });
  const needed = tokens === 0 ? 0 : (tokens - 1) * rowStride + vocab;
  if (data.length < needed)
    throw badArgument('ERR_SHAPE', `${name}.data`, `at least ${needed} elements`, `${data.length}`);
  return { dtypeName: dtype, data, dtype: DTYPE_CODES[dtype], tokens, vocab, rowStride, source: tensor };
}

/** The data of a tensor with its type; the bits of a `Float16Array`. */
export function tensorData(name: string, given: HostLogits, wanted?: DTypeName): { data: HostLogits; dtype: DType } {
  const half = tag(given) === HALF_ARRAY;
  const data = typedArray(`${name}.data`, given, half ? [HALF_ARRAY] : (['Float32Array', 'Uint16Array'] as const));
  const implied = half ? 'f16' : tag(data) === 'Float32Array' ? 'f32' : undefined;
  const dtype = dtypeNamed(oneOf(`${name}.dtype`, wanted ?? implied, DTYPE_NAMES));
  if ((dtype === 'f32') !== (tag(data) === 'Float32Array') || (half && dtype !== 'f16')) {
    throw badArgument('ERR_DTYPE', `${name}.data`, `data of dtype ${dtype}`, describe(given));
  }
  return { data, dtype };
}

/** [T, V], V is at least 1 where there are rows. */
export function tensorShape(name: string, shape: unknown, dimensions = '[T, V]'): [number, number] {
  if (!isArray(shape) || shape.length !== 2) throw badArgument('ERR_SHAPE', name, dimensions, describe(shape));
  const tokens = finiteNumber(`${name}[0]`, shape[0], { min: 0, integer: true });
  const vocab = { min: tokens === 0 ? 0 : 1, max: LONGEST_ROW, integer: true };
  return [tokens, finiteNumber(`${name}[1]`, shape[1], vocab)];
}
