// The [T, V] arrays that contenders of one dtype share, in several copies that together outgrow the cache.

import type { DeviceTensor } from '../../lib/cuda/index.js';
import type { DType, HostTensor } from '../../lib/index.js';
import { availableMemory, ownCacheBytes } from '../machine.js';
import { formatShape } from '../report/figures.js';
import { asBytes, benchAddon } from './addon.js';
import {
  allFinite,
  bytesPerElement,
  type Elements,
  roundTo,
  slotCopies,
  type TokenProblem,
  type TokenShape,
  widen,
} from './data.js';
import { type RowTruth, truthOf, WrongResult } from './float64.js';

/** In the host's memory, or in that of a device (device-arrays.ts). */
export interface TokenArrays<Tensor extends HostTensor | DeviceTensor = HostTensor | DeviceTensor> {
  readonly problem: TokenProblem;
  readonly dtype: DType;
  readonly bytes: number; // of one [T, V] array
  readonly slots: number;
  readonly source: Elements; // what the logits hold
  readonly truth: readonly RowTruth[];
  readonly logits: readonly Tensor[];
  /** The logits again: gradients in place overwrite them, `restore` brings them back. */
  readonly work: readonly Tensor[];
  readonly out: readonly Tensor[];
  restore(slot: number): void;
  /** Waits until a device has done all its work. */
  settle(): void;
  /** A gradient's elements on the host; `slot` of `work` or of `out`. */
  gradient(array: 'work' | 'out', slot: number): Elements;
}

export type HostArrays = TokenArrays<HostTensor>;

const MAX_SLOTS = 256;
const ARRAYS = 3; // logits, work, out

const bytesOf = ({ tokens, vocab }: TokenShape, dtype: DType) => tokens * vocab * bytesPerElement(dtype);

/** As many copies as make one kind of array four times as large as the last-level cache. */
export function slotsOf(shape: TokenShape, dtype: DType, cacheBytes = ownCacheBytes()): number {
  return Math.min(MAX_SLOTS, Math.max(2, Math.ceil((4 * cacheBytes) / bytesOf(shape, dtype))));
}

/** What the arrays of host and device have in common. */
export function sharedParts(problem: TokenProblem, dtype: DType) {
  const source = roundTo(problem.logits, dtype);
  return { problem, dtype, source, bytes: bytesOf(problem.shape, dtype), truth: truthOf(problem, dtype, source) };
}

export function createArrays(problem: TokenProblem, dtype: DType, slots = slotsOf(problem.shape, dtype)): HostArrays {
  const { shape } = problem;
  const shared = sharedParts(problem, dtype);
  const [logits, work, out] = Array.from({ length: ARRAYS }, () => slotCopies(shape, dtype, shared.source, slots));
  const arrays = { logits, work, out };
  const addon = benchAddon();
  return {
    ...shared,
    ...arrays,
    slots,
    /** With non-temporal stores: dirty cache lines would be written back in the time of whoever comes next. */
    restore(slot) {
      const [from, to] = [logits[slot], work[slot]];
      if (addon) addon.streamMemory({ source: asBytes(from), destination: asBytes(to), bytes: shared.bytes });
      else to.data.set(from.data);
    },
    settle() {},
    gradient: (array, slot) => arrays[array][slot].data,
  };
}

/** Fails before anything is allocated, rather than be killed by the system later. */
export function requireMemory(shape: TokenShape, dtypes: readonly DType[]): void {
  const bytes = dtypes.reduce((sum, dtype) => sum + ARRAYS * slotsOf(shape, dtype) * bytesOf(shape, dtype), 0);
  const free = availableMemory();
  if (bytes <= 0.8 * free) return;
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`;
  throw new Error(
    `${formatShape(shape)} needs ${gib(bytes)} for its arrays, and ${gib(free)} is left: ask for fewer --tokens or one --dtype`,
  );
}

/** Rows of a gradient as float64, if all of it is finite. */
export function finiteRows({ dtype, problem: { shape } }: TokenArrays, gradient: Elements, name: string) {
  if (!allFinite(gradient, dtype)) throw new WrongResult(`${name}: not finite`);
  return (row: number) => widen(gradient, dtype, row * shape.vocab, (row + 1) * shape.vocab);
}
