// Where arrays are in memory: whether what a call writes shares memory with what it reads, and whether an array still has
// its memory.
import { badArgument } from '../errors.js';
import { isSharedArrayBuffer } from '../platform.js';
import { attachedView, isDetached } from '../views.js';
import { loadedAddon } from './addon.js';

/** A piece of memory, in bytes. Pieces `of` different things lie apart. */
export interface Extent {
  of: unknown;
  start: number;
  bytes: number;
}

/**
 * The memory of an array, or of its first `bytes`. By address: shared memory that arrives twice, in messages say, arrives
 * on two buffers. Only the addon knows addresses; where it is not loaded, the buffers must do: see {@link mayAlias}.
 */
export function extentOf(array: ArrayBufferView, bytes = array.byteLength): Extent {
  const addon = loadedAddon();
  if (!addon) return { of: array.buffer, start: array.byteOffset, bytes };
  return { of: 'host', start: addon.address(array), bytes };
}

/** Whether two pieces of memory have a byte in common. */
export function overlap(a: Extent, b: Extent): boolean {
  if (a.of !== b.of || a.bytes === 0 || b.bytes === 0) return false;
  return a.start < b.start + b.bytes && b.start < a.start + a.bytes;
}

/** Whether the addon is loaded. A call on the reference does not load it. */
export function addressesKnown(): boolean {
  return loadedAddon() !== undefined;
}

/** Whether two arrays may share memory and only addresses could tell: they are on two shared buffers. */
export function mayAlias(a: ArrayBufferView, b: ArrayBufferView): boolean {
  return a.buffer !== b.buffer && isSharedArrayBuffer(a.buffer) && isSharedArrayBuffer(b.buffer);
}

/** Refuses an output in the memory of an input: the call would read what it had written. Inputs in `except` may share it. */
export function checkApart(name: string, out: Extent, inputs: object, except: readonly string[]): void {
  for (const [input, value] of Object.entries(inputs)) {
    const array = attachedView(value);
    if (!array || except.includes(input) || !overlap(out, extentOf(array))) continue;
    throw badArgument('ERR_RANGE', name, `memory apart from ${input}`, 'an overlap');
  }
}

/** Refuses a typed array that has lost its memory since the call began. */
export function checkAttached(name: string, array: ArrayBufferView): void {
  if (!isDetached(array)) return;
  const lost = 'one whose buffer was transferred or grown meanwhile (detached)';
  throw badArgument('ERR_DTYPE', name, 'an array that keeps its memory until the call is done', lost);
}
