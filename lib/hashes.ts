// Hashes of 32 bits: what stands for texts and numbers where only whether they are the same counts.
import { type Sliced, slices } from './slices.js';

/** FNV-1a (Fowler, Noll, Vo). */
export function hashedText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Of lists of numbers, of which any may be missing. */
export function* hashedNumbers(lists: readonly (ArrayLike<number> | undefined)[]): Sliced<number> {
  const number = new Float64Array(1);
  const words = new Int32Array(number.buffer);
  let hash = 0;
  for (const list of lists) {
    hash = mixed(hash ^ (list?.length ?? -1));
    if (!list) continue;
    yield* slices(list.length, (begin, end) => {
      for (let i = begin; i < end; i++) {
        const value = list[i];
        if (value === (value | 0)) {
          hash = mixed(hash ^ value); // a whole number, and zeros of both signs
          continue;
        }
        number[0] = value;
        hash = mixed(mixed(hash ^ words[0]) ^ words[1]);
      }
    });
  }
  return hash;
}

/** MurmurHash3's finalizer (Austin Appleby), which maps the whole numbers below 2^32 onto each other. */
export function mixed(bits: number): number {
  let x = bits;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
