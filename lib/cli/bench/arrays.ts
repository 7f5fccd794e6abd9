// The [T, V] arrays that contenders of one dtype share, in several copies that together outgrow the cache.
import type { DType, HostTensor } from '../../index.js';
import { allFinite, bytesPerElement, roundTo, slotCopies, type TokenProblem, type TokenShape, widen } from './data.js';
import { type RowTruth, truthOf, WrongResult } from './float64.js';
import { availableMemory, lastLevelCacheBytes } from './machine.js';
import { asBytes, benchAddon } from './yardsticks.js';

export interface TokenArrays {
  readonly problem: TokenProblem;
  readonly dtype: DType;
  readonly bytes: number; // of one [T, V] array
  readonly slots: number;
  readonly truth: readonly RowTruth[];
  readonly logits: readonly HostTensor[];
  /** The logits again: gradients in place eat them, `restore` brings them back. */
  readonly work: readonly HostTensor[];
  readonly out: readonly HostTensor[];
}

const MAX_SLOTS = 256;
const ARRAYS = 3; // logits, work, out

const bytesOf = ({ tokens, vocab }: TokenShape, dtype: DType) => tokens * vocab * bytesPerElement(dtype);

/** Copies that make one kind of array four times as large as the last-level cache. */
function slotsOf(shape: TokenShape, dtype: DType): number {
  return Math.min(MAX_SLOTS, Math.max(2, Math.ceil((4 * lastLevelCacheBytes()) / bytesOf(shape, dtype))));
}

export function createArrays(problem: TokenProblem, dtype: DType): TokenArrays {
  const { shape } = problem;
  const source = roundTo(problem.logits, dtype);
  const slots = slotsOf(shape, dtype);
  const copies = () => slotCopies(shape, dtype, source, slots);
  const truth = truthOf(problem, dtype, source);
  const bytes = bytesOf(shape, dtype);
  return { problem, dtype, bytes, slots, truth, logits: copies(), work: copies(), out: copies() };
}

/** Fails before anything is allocated rather than by the system's hand later. */
export function requireMemory(shape: TokenShape, dtypes: readonly DType[]): void {
  const bytes = dtypes.reduce((sum, dtype) => sum + ARRAYS * slotsOf(shape, dtype) * bytesOf(shape, dtype), 0);
  const free = availableMemory();
  if (bytes <= 0.8 * free) return;
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`;
  throw new Error(
    `${shape.tokens} x ${shape.vocab} takes ${gib(bytes)} of arrays and ${gib(free)} are left: ask for fewer --tokens or one --dtype`,
  );
}

/** By stores that pass the caches by: lines to be written back would be charged to whoever is timed next. */
export function restoring({ work, logits, bytes }: TokenArrays): (slot: number) => void {
  const addon = benchAddon();
  return (slot) => {
    const [source, destination] = [logits[slot], work[slot]];
    if (addon) addon.streamMemory({ source: asBytes(source), destination: asBytes(destination), bytes });
    else destination.data.set(source.data);
  };
}

/** Rows of a gradient as float64, if all of it is finite. */
export function finiteRows({ dtype, problem: { shape } }: TokenArrays, { data }: HostTensor, name: string) {
  if (!allFinite(data, dtype)) throw new WrongResult(`${name}: not finite`);
  return (row: number) => widen(data, dtype, row * shape.vocab, (row + 1) * shape.vocab);
}
