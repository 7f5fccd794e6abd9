// What the tests of device tensors share. On a GPU there is no emulation, and what needs it is skipped.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, describe, expect } from 'vitest';
import { nativeAddon } from '../../lib/backend/addon.js';
import type { Device, DeviceTensor } from '../../lib/cuda/index.js';
import { backends, type DType, type HostTensor } from '../../lib/index.js';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../../lib/reference/float16.js';
import { BACKENDS } from './backends.js';
import { randomBatch } from './random.js';

export interface Emulation {
  liveAllocations(): number; // device and pinned memory
  liveBytes(): number;
  misuses(): string | undefined; // the last call that no correct program makes
  failAllocation(n: number): void; // the n-th from now; 0: none
}

const addon = nativeAddon();

/** The controls of the emulated CUDA, or undefined on a GPU. */
export const emulation = 'reason' in addon ? undefined : (addon.cuda as { emulation?: Emulation }).emulation;

/** Devices there are: 0 without CUDA. RLVR_EMULATION_DEVICES sets it for the emulation. */
export const DEVICES = BACKENDS.includes('cuda') ? (backends().find(({ name }) => name === 'cuda')?.devices ?? 0) : 0;

/** A suite that runs where there are that many devices; the emulation must have been used properly all along. */
export function describeDevices(name: string, suite: () => void, devices = 1): void {
  describe.runIf(DEVICES >= devices)(name, () => {
    suite();
    afterAll(() => {
      expect(emulation?.misuses()).toBeUndefined();
    });
  });
}

export const DTYPES = ['f32', 'bf16', 'f16'] as const;

export const FORMATS: Record<
  DType,
  { bytes: number; toBits(x: number): number; toNumber(bits: number): number; nan: number; ulp: number }
> = {
  f32: { bytes: 4, toBits: (x) => x, toNumber: (x) => x, nan: NaN, ulp: 2e-6 },
  bf16: { bytes: 2, toBits: numberToBf16, toNumber: bf16ToNumber, nan: 0x7fff, ulp: 4e-3 },
  f16: { bytes: 2, toBits: numberToF16, toNumber: f16ToNumber, nan: 0x7fff, ulp: 5e-4 },
};

type HostArray = HostTensor['data'];

/** `length` elements, all NaN. */
export function nanArray(dtype: DType, length: number): HostArray {
  const { nan } = FORMATS[dtype];
  return dtype === 'f32' ? new Float32Array(length).fill(nan) : new Uint16Array(length).fill(nan);
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

/** Bits as the numbers they stand for. */
export function numbers(data: HostArray, dtype: DType): Float32Array {
  return Float32Array.from(data, FORMATS[dtype].toNumber);
}

interface Rows {
  vocab: number;
  groups?: number;
  dtype?: DType;
  padding?: number;
}

/** A random batch: logits of `dtype` in a host tensor, and, in float32, the same numbers for the reference. */
export function roundedBatch(seed: number, { vocab, groups = 4, dtype = 'f32', padding = 0 }: Rows) {
  const batch = randomBatch(seed, { vocab, groups });
  const host = hostTensor(batch.logits, [batch.targets.length, vocab], dtype, padding);
  return { host, batch: { ...batch, logits: numbers(unpadded(host), dtype) } };
}

/** A tensor inside another, `offset` elements into it and with NaN between its rows; `whole` owns the memory. */
export function paddedTensor(device: Device, host: HostTensor, { offset = 3, padding = 5 } = {}) {
  const { shape, dtype = 'f32' } = host;
  const [rows, columns] = shape;
  const rowStride = columns + padding;
  const length = offset + Math.max(rows, 1) * rowStride;
  const whole = device.uploadSync({ data: nanArray(dtype, length), shape: [1, length], dtype });
  const pointer = whole.pointer + BigInt(offset * FORMATS[dtype].bytes);
  const tensor = device.wrap({ pointer, shape, dtype, rowStride, owner: whole });
  device.uploadSync(host, { out: tensor });
  return { tensor, whole, offset };
}

/** How many elements of a paddedTensor's surroundings are not the NaN they were. */
export function writtenPadding({
  tensor,
  whole,
  offset,
}: {
  tensor: DeviceTensor;
  whole: DeviceTensor;
  offset: number;
}) {
  const [rows, columns] = tensor.shape;
  const { nan } = FORMATS[tensor.dtype];
  return whole.downloadSync().filter((bits, i) => {
    const inside = i >= offset && (i - offset) % tensor.rowStride < columns && i - offset < rows * tensor.rowStride;
    return !inside && !Object.is(bits, nan);
  }).length;
}

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

/** Collects garbage until `done`, for a while; whether it came true. */
export async function collectUntil(done: () => boolean): Promise<boolean> {
  for (let i = 0; i < 30; i++) {
    await new Promise((resolve) => setImmediate(resolve)); // what a WeakRef gave is held for the rest of the job
    gc();
    if (done()) return true;
  }
  return false;
}
