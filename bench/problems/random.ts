/**
 * Seeded random numbers (mulberry32), so that one seed gives the same data, and the same training run of `demo`, on every
 * machine: `Math.random` cannot be seeded.
 */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1), a multiple of 2⁻³². */
  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let bits = this.#state;
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Standard normal, by Box and Muller, of whose pair this is the first. */
  normal(): number {
    const radius = this.#radius();
    return radius * Math.cos(this.#angle());
  }

  /** Fills an array with normal numbers, taking both of each pair. */
  fillNormal(out: Float32Array | Float64Array, deviation = 1): void {
    for (let i = 0; i < out.length; i += 2) {
      const radius = deviation * this.#radius();
      const angle = this.#angle();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle);
    }
  }

  #radius(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform()));
  }

  #angle(): number {
    return 2 * Math.PI * this.uniform();
  }

  /** The first `count` of `items` after a Fisher–Yates shuffle; `items` itself is left as it is. */
  sample<T>(items: readonly T[], count: number): T[] {
    const shuffled = [...items];
    for (let i = 0; i < Math.min(count, shuffled.length); i++) {
      const other = i + Math.floor(this.uniform() * (shuffled.length - i));
      [shuffled[i], shuffled[other]] = [shuffled[other], shuffled[i]];
    }
    return shuffled.slice(0, count);
  }
}
