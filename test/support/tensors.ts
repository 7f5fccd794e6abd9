// Host tensors of every dtype, rounded from numbers and back.
import type { DType, DTypeName, HostTensor } from '../../lib/index.js';
import { dtypeNamed } from '../../lib/kernels.js';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../../lib/reference/float16.js';

export const DTYPES = ['f32', 'bf16', 'f16'] as const;

interface Format {
  bytes: number;
  toBits(x: number): number; // the element that stands for a number
  toNumber(bits: number): number;
  nan: number;
  ulp: number; // relative; 0 for f32, where it is nothing beside what kernels may err
}

export const FORMATS: Record<DType, Format> = {
  f32: { bytes: 4, toBits: Math.fround, toNumber: Math.fround, nan: NaN, ulp: 0 },
  bf16: { bytes: 2, toBits: numberToBf16, toNumber: bf16ToNumber, nan: 0x7fff, ulp: 4e-3 },
  f16: { bytes: 2, toBits: numberToF16, toNumber: f16ToNumber, nan: 0x7fff, ulp: 5e-4 },
};

type HostArray = HostTensor['data'];

/** `length` elements, all NaN. */
export function nanArray(dtype: DTypeName, length: number): HostArray {
  const { nan, bytes } = FORMATS[dtypeNamed(dtype)];
  return bytes === 4 ? new Float32Array(length).fill(nan) : new Uint16Array(length).fill(nan);
}

/** The rows of `values`, rounded to `dtype`, with `padding` NaNs between them. */
export function hostTensor(values: ArrayLike<number>, shape: [number, number], dtype: DType, padding = 0): HostTensor {
  const [rows, columns] = shape;
  const rowStride = columns + padding;
  const data = nanArray(dtype, rows === 0 ? 0 : (rows - 1) * rowStride + columns);
  for (let i = 0; i < rows * columns; i++) {
    data[Math.floor(i / columns) * rowStride + (i % columns)] = FORMATS[dtype].toBits(values[i]);
  }
  return { data, shape, dtype, rowStride };
}

/** The elements of a host tensor without its padding, as they are. */
export function unpadded({ data, shape: [rows, columns], dtype = 'f32', rowStride = columns }: HostTensor): HostArray {
  const packed = nanArray(dtype, rows * columns);
  for (let row = 0; row < rows; row++) {
    packed.set(data.subarray(row * rowStride, row * rowStride + columns), row * columns);
  }
  return packed;
}

/** Elements as the numbers they stand for. */
export function numbers(data: HostArray, dtype: DTypeName): Float32Array {
  return Float32Array.from(data, FORMATS[dtypeNamed(dtype)].toNumber);
}
