// What the tests of device tensors share. On a GPU there is no emulation, and what needs it is skipped.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, describe, expect } from 'vitest';
import { nativeAddon } from '../../lib/backend/addon.js';
import type { Device, DeviceTensor } from '../../lib/cuda/index.js';
import { backends, type DType, type HostTensor } from '../../lib/index.js';
import { dtypeNamed } from '../../lib/kernels.js';
import { BACKENDS } from './backends.js';
import { randomBatch } from './random.js';
import { FORMATS, hostTensor, nanArray, numbers, unpadded } from './tensors.js';

export interface Emulation {
  liveAllocations(): number; // device and pinned memory
  liveBytes(): number;
  misuses(): string | undefined; // the last call that a correct program would not make
  hasContext(device: number): boolean; // its primary context
  failAllocation(n: number): void; // from the n-th from now on; 0: none
  failRecord(n: number): void; // the n-th record of an event from now; 0: none
  /** Of all streams, so far. */
  operations(): Record<'launches' | 'blocks' | 'copies' | 'copies2d' | 'memsets' | 'allocations' | 'frees', number>;
  /** Another machine; -1: as by default. */
  pretend(what: 'driver' | 'pools' | 'images' | 'maxPitch' | 'memory' | 'processors', value: number): boolean;
  // What another library does.
  createStream(device: number): bigint;
  destroyStream(stream: bigint): void;
  beginCapture(stream: bigint): void;
  endCapture(stream: bigint): boolean; // whether nothing has spoilt it
  createEvent(device: number): bigint;
  destroyEvent(event: bigint): void;
  recordEvent(event: bigint, stream: bigint): void;
  allocate(bytes: number): bigint; // 0n: no memory
  free(pointer: bigint): void;
  setMemory(stream: bigint, pointer: bigint, byte: number, bytes: number): void;
  ncclInitAll(file: string, count: number): bigint[]; // one communicator on each device from 0 on
  ncclLive(file: string): number; // communicators of the NCCL of the tests
}

const addon = nativeAddon();

/** The controls of the emulated CUDA, or undefined on a GPU. */
export const emulation = 'reason' in addon ? undefined : (addon.cuda as { emulation?: Emulation }).emulation;

/** How many devices there are: 0 without CUDA. RLVR_EMULATION_DEVICES sets it for the emulation. */
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
  const pointer = whole.pointer + BigInt(offset * FORMATS[dtypeNamed(dtype)].bytes);
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

/** Collects garbage until `done`, or for a while; returns whether it is done. */
export async function collectUntil(done: () => boolean): Promise<boolean> {
  for (let i = 0; i < 30; i++) {
    await new Promise((resolve) => setImmediate(resolve)); // what a WeakRef returned is held until the end of the job
    gc();
    if (done()) return true;
  }
  return false;
}
