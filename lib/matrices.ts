// Matrices, in each of the forms that users hand over, as one view.

import { type Extent, extentOf } from './backend/extents.js';
import { preparedForWriting } from './backend/outputs.js';
import { DeviceTensor, memoryOf } from './cuda/device.js';
import { badArgument, describe, tag } from './errors.js';
import { HALF_ARRAY, type HostTensor, hostView, tensorData } from './host-tensor.js';
import { DTYPE_CODES, type DType, type DTypeCode, type HostLogits, type LogitsData } from './kernels.js';
import { newArray } from './memory.js';

/** A matrix: a contiguous `Float32Array`, or a tensor with its shape, which may be bf16 or f16 and padded, here or on a GPU. */
export type Matrix = Float32Array | HostTensor | DeviceTensor;

/** Where a gradient goes: `{ out }` is overwritten, `{ accumulate }` added to. */
export type MatrixGradientOption = 'new' | 'none' | { out: Matrix } | { accumulate: Matrix };

/** An array without its shape. */
interface FlatMatrix {
  data: HostLogits;
  dtype: DTypeCode;
  source: Float32Array | HostTensor; // what the user gave
}

/** A validated matrix, row r at element r * rowStride. */
export interface MatrixView {
  data: LogitsData;
  dtype: DTypeCode;
  source: Matrix; // what the user gave
  rows: number;
  width: number;
  rowStride: number;
}

/** Where a gradient is written. */
export interface GradientView extends MatrixView {
  accumulate: boolean;
}

/** Checks a contiguous array; its shape has to be known from something else. */
export function contiguous(name: string, value: ArrayBufferView): FlatMatrix {
  if (tag(value) === 'Uint16Array') {
    throw badArgument('ERR_DTYPE', name, "{ data, shape, dtype: 'bf16' or 'f16' } for 16-bit data", describe(value));
  }
  const { data, dtype } = tensorData(name, value as Float32Array);
  return { data, dtype: DTYPE_CODES[dtype], source: value as Float32Array };
}

/** Checks an argument by itself; `dimensions` names those of a tensor, such as `[T, d]`. */
export function givenMatrix(name: string, value: unknown, dimensions: string): FlatMatrix | MatrixView {
  if (value instanceof DeviceTensor) return onDevice(name, value);
  if (ArrayBuffer.isView(value)) return contiguous(name, value);
  if (Array.isArray(value)) throw badArgument('ERR_DTYPE', name, 'a Float32Array or { data, shape }', describe(value));
  const { data, dtype, tokens: rows, vocab: width, rowStride, source } = hostView(name, value, dimensions);
  return { data, dtype, rows, width, rowStride, source };
}

function onDevice(name: string, tensor: DeviceTensor): MatrixView {
  const { dtype, rowStride, shape } = tensor;
  const [rows, width] = shape;
  return { data: memoryOf(name, tensor), dtype: DTYPE_CODES[dtype], rows, width, rowStride, source: tensor };
}

/** What is written must be where `input`, called `of`, is: here, or on its device. */
export function samePlace(name: string, out: unknown, of: string, input: unknown): void {
  if (!(input instanceof DeviceTensor)) {
    if (out instanceof DeviceTensor) throw badArgument('ERR_DTYPE', name, `host memory, as ${of}`, describe(out));
  } else if (!(out instanceof DeviceTensor)) {
    throw badArgument('ERR_DTYPE', name, `a DeviceTensor, as ${of}`, describe(out));
  } else if (out.device !== input.device) {
    throw badArgument('ERR_BACKEND', name, `a tensor of the device of ${of}`, 'one of another Device');
  }
}

/** The matrix with its shape, which must be this one. */
export function shapedMatrix(
  name: string,
  given: FlatMatrix | MatrixView,
  [rows, width]: readonly [rows: number, width: number],
  dimensions: string,
): MatrixView {
  if (!('rows' in given)) {
    const { length } = given.data;
    if (length === rows * width) return { ...given, rows, width, rowStride: width };
    throw badArgument(
      'ERR_SHAPE',
      name,
      `length ${rows * width}, ${dimensions} = [${rows}, ${width}]`,
      `length ${length}`,
    );
  }
  if (given.rows === rows && given.width === width) return given;
  const got = `[${given.rows}, ${given.width}]`;
  throw badArgument('ERR_SHAPE', `${name}.shape`, `${dimensions} = [${rows}, ${width}]`, got);
}

/** Where the gradient of a matrix, called `input`, goes; undefined for 'none'. */
export function matrixGradient(
  name: string,
  option: unknown,
  input: string,
  of: MatrixView,
  dimensions: string,
): GradientView | undefined {
  if (option === 'none') return undefined;
  if (option === 'new') return { ...newMatrix(name, of, of.rows, of.width), accumulate: false };
  const { out, accumulate } = (typeof option === 'object' && option !== null ? option : {}) as Record<string, unknown>;
  if ((out === undefined) === (accumulate === undefined)) {
    throw badArgument('ERR_RANGE', name, "'new', 'none', { out } or { accumulate }", describe(option));
  }
  const path = `${name}.${out === undefined ? 'accumulate' : 'out'}`;
  const view = shapedMatrix(path, givenMatrix(path, out ?? accumulate, dimensions), [of.rows, of.width], dimensions);
  samePlace(path, view.source, input, of.source);
  return { ...view, accumulate: out === undefined };
}

/** The bytes from the first element of a matrix to its last. */
export function matrixBytes({ dtype, rows, width, rowStride }: Omit<MatrixView, 'data' | 'source'>): number {
  const elements = rows === 0 ? 0 : (rows - 1) * rowStride + width;
  return elements * (dtype === DTYPE_CODES.f32 ? 4 : 2);
}

/** The memory from the first element of a matrix to its last, in `memory` or where its data is. */
export function matrixExtent(
  view: Omit<MatrixView, 'source'>,
  memory: ArrayBufferView | LogitsData = view.data,
): Extent {
  if (ArrayBuffer.isView(memory)) return extentOf(memory, matrixBytes(view));
  return { of: 'device', start: Number(memory.pointer), bytes: matrixBytes(view) };
}

/** A new matrix, in the form and dtype of another. */
export function newMatrix(name: string, like: FlatMatrix | MatrixView, rows: number, width: number): MatrixView {
  const { data, source, dtype } = like;
  if (source instanceof DeviceTensor) return onDevice(name, source.device.empty([rows, width], source.dtype));
  const fresh = preparedForWriting(
    tag(data) === 'Float32Array'
      ? newArray(name, Float32Array, rows * width)
      : newArray(name, Uint16Array, rows * width),
  );
  const view = { data: fresh, dtype, rows, width, rowStride: width };
  if (ArrayBuffer.isView(source)) return { ...view, source: likeSource(source, fresh) };
  const dtypeName = (Object.keys(DTYPE_CODES) as DType[]).find((key) => DTYPE_CODES[key] === dtype);
  const tensor = { data: likeSource(source.data, fresh), shape: [rows, width] as const, dtype: dtypeName };
  return { ...view, source: { ...tensor, rowStride: width } };
}

/** Half-precision arrays come back as what they came in. */
function likeSource<A extends HostLogits>(source: A, fresh: HostLogits): A {
  if (tag(source) !== HALF_ARRAY) return fresh as A;
  const HalfArray = source.constructor as new (buffer: ArrayBufferLike) => A;
  return new HalfArray(fresh.buffer);
}
