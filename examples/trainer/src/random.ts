/** Seeded random numbers in [0, 1), by xorshift32: the same run again. */
export type Random = () => number;

export function seeded(seed: number): Random {
  let x = Math.imul(seed + 1, 0x9e3779b1) || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}
