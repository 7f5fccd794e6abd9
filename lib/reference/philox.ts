// Philox4x32-10, a counter-based generator: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A number
// depends on the key and on its counter alone, so rows may be drawn in any order, anywhere.

const ROUNDS = 10;
const WORD = 2 ** 32;

type Words = [number, number, number, number];

/** The high and the low word of a product of two words. */
function product(a: number, b: number): [high: number, low: number] {
  const wide = BigInt(a) * BigInt(b);
  return [Number(wide >> 32n), Number(wide & 0xffffffffn)];
}

/** The block of a counter, under a key: words below 2^32. */
export function philox4x32(counter: Words, key: [number, number]): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const [high0, low0] = product(0xd2511f53, c0);
    const [high1, low1] = product(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) % WORD;
    k1 = (k1 + 0xbb67ae85) % WORD;
  }
  return [c0, c1, c2, c3];
}

/** Draw number `counter` of those that belong to a seed: 53 bits, in [0, 1). Both are whole numbers below 2^53. */
export function uniform(seed: number, counter: number): number {
  const words = (x: number): [number, number] => [x % WORD, Math.floor(x / WORD)];
  const [first, second] = philox4x32([...words(counter), 0, 0], words(seed));
  return ((first >>> 5) * 2 ** 26 + (second >>> 6)) / 2 ** 53;
}
