import { allocated } from '../memory.js';
import { newMemory } from '../platform.js';
import { loadedAddon } from './addon.js';

const LARGE = 4096; // elements; smaller arrays live in V8's own heap, which is faster still
const HUGE = 2 ** 25; // bytes; larger allocations come from the system every time, smaller ones may be reused
const LONGEST = 2 ** 31; // bytes of one view: a Uint8Array cannot be much longer

/** A Float64Array for a kernel that writes every element: not zeroed, as that would only cost time. `name`: what it holds. */
export function outputArray(name: string, length: number): Float64Array {
  return preparedForWriting(allocated(name, length, uninitialised));
}

function uninitialised(length: number): Float64Array {
  if (length < LARGE) return new Float64Array(length);
  return new Float64Array(newMemory(length * Float64Array.BYTES_PER_ELEMENT));
}

/** The given new array, with huge pages requested for it: faulting in small ones takes longer than the kernels. */
export function preparedForWriting<A extends ArrayBufferView>(array: A): A {
  const addon = array.byteLength > HUGE ? loadedAddon() : undefined;
  for (let begin = 0; addon && begin < array.byteLength; begin += LONGEST) {
    const bytes = Math.min(array.byteLength - begin, LONGEST);
    addon.preferHugePages({ memory: new Uint8Array(array.buffer, array.byteOffset + begin, bytes), bytes });
  }
  return array;
}
