/** Random numbers in [0, 1). */
export type Random = () => number;

/** Spreads a number over 32 bits: the finalizer of MurmurHash3. */
function spread(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export const hashOf = (text: string): number => [...text].reduce((hash, c) => spread(hash ^ c.charCodeAt(0)) + 1, 1);

/**
 * The random numbers of these keys, by xorshift32: the same keys, the same numbers. Each step of a run has numbers of its own, by the seed
 * and the step, so that a resumed run needs to know nothing else.
 */
export function randomOf(...keys: number[]): Random {
  let x = keys.reduce((hash, key) => spread(hash ^ spread(key + 0x9e3779b9)) + 1, 1) | 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}

/** A number of the standard normal distribution. */
export const normal = (random: Random): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

export const below = (limit: number, random: Random): number => Math.floor(limit * random());
