// The small batches that `verify` runs, and how its results are compared.

import { Random } from '../../bench/problems/random.js';
import type { DType } from '../../lib/index.js';

/** Sizes at which every path of a kernel runs: an odd vocabulary beyond several vectors, sequences of all lengths. */
const VOCABULARY = 1031;
const GROUP_SIZES = [4, 1, 3];
const LENGTHS = [5, 1, 7, 0, 3, 2, 6, 4];

export interface Problem {
  readonly logits: { data: Float32Array | Uint16Array; shape: [number, number]; dtype: DType };
  readonly targets: Int32Array; // [T]
  readonly mask: Uint8Array; // [T]
  readonly cuSeqlens: Int32Array; // [N + 1]
  readonly cuGroups: Int32Array; // [G + 1]
  readonly rewards: Float32Array; // [N]
  readonly oldLogProbs: Float64Array; // [T]
  readonly refLogProbs: Float64Array; // [T]
}

export function problem(dtype: DType, seed: number): Problem {
  const random = new Random(seed);
  const cuSeqlens = cumulate(LENGTHS);
  const tokens = cuSeqlens[LENGTHS.length];
  const near = () => Float64Array.from({ length: tokens }, () => -7 + 0.3 * random.normal());
  const values = Float32Array.from({ length: tokens * VOCABULARY }, () => 2 * random.normal());
  for (let t = 0; t < tokens; t++) values[t * VOCABULARY + ((7 * t) % VOCABULARY)] = -Infinity; // banned tokens
  return {
    logits: {
      data: dtype === 'f32' ? values : Uint16Array.from(values, BITS[dtype]),
      shape: [tokens, VOCABULARY],
      dtype,
    },
    targets: Int32Array.from({ length: tokens }, (_, t) => (7 * t + 1 + (t % 500)) % VOCABULARY),
    mask: Uint8Array.from({ length: tokens }, () => (random.uniform() < 0.85 ? 1 : 0)),
    cuSeqlens,
    cuGroups: cumulate(GROUP_SIZES),
    rewards: Float32Array.from(LENGTHS, (_, i) => (i % 3 === 0 ? 1 : 0)),
    oldLogProbs: near(),
    refLogProbs: near(),
  };
}

function cumulate(lengths: readonly number[]): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((length, i) => {
    offsets[i + 1] = offsets[i] + length;
  });
  return offsets;
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The bits of a number in a 16-bit type, cut off: which number of the type it becomes does not matter here. */
const BITS: Record<'bf16' | 'f16', (value: number) => number> = {
  bf16(value) {
    scratch[0] = value;
    return scratchBits[0] >>> 16;
  },
  f16(value) {
    scratch[0] = value;
    const bits = scratchBits[0];
    const sign = (bits >>> 16) & 0x8000;
    const exponent = ((bits >>> 23) & 0xff) - 112; // rebiased
    if (value === -Infinity || exponent >= 31) return sign | 0x7c00;
    return exponent <= 0 ? sign : sign | (exponent << 10) | ((bits >>> 13) & 0x3ff);
  },
};

/** 16-bit elements as numbers. */
export function widen(data: Float32Array | Uint16Array, dtype: DType): ArrayLike<number> {
  if (dtype === 'f32') return data;
  return Float64Array.from(data, (bits) => {
    if (dtype === 'bf16') {
      scratchBits[0] = bits << 16;
      return scratch[0];
    }
    const exponent = (bits >>> 10) & 31;
    const fraction = bits & 1023;
    const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    if (exponent === 31) return fraction === 0 ? (bits & 0x8000 ? -Infinity : Infinity) : NaN;
    return bits & 0x8000 ? -magnitude : magnitude;
  });
}

/** ||actual - expected|| / ||expected||; NaN where anything is NaN or the lengths differ, and NaN passes no bound. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return NaN;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += actual[i] === expected[i] ? 0 : (actual[i] - expected[i]) ** 2;
    norm += expected[i] ** 2;
  }
  return Math.sqrt(difference) / (norm === 0 ? 1 : Math.sqrt(norm));
}
