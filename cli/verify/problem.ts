// The small batches that `verify` runs.

import type { Elements } from '../../bench/problems/data.js';
import { Random } from '../../bench/problems/random.js';
import { offsetsOf } from '../../bench/problems/rollouts.js';
import type { DType } from '../../lib/index.js';
import { numberToBf16, numberToF16 } from '../../lib/reference/float16.js';

/** Sizes at which every path of a kernel runs: an odd vocabulary beyond several vectors, sequences of all lengths. */
const VOCABULARY = 1031;
const GROUP_SIZES = [4, 1, 3];
const LENGTHS = [5, 1, 7, 0, 3, 2, 6, 4];

export interface Problem {
  readonly logits: { data: Elements; shape: [number, number]; dtype: DType };
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
  const cuSeqlens = offsetsOf(LENGTHS);
  const tokens = cuSeqlens[LENGTHS.length];
  const near = () => Float64Array.from({ length: tokens }, () => -7 + 0.3 * random.normal());
  const values = Float32Array.from({ length: tokens * VOCABULARY }, () => 2 * random.normal());
  for (let t = 0; t < tokens; t++) values[t * VOCABULARY + ((7 * t) % VOCABULARY)] = -Infinity; // banned tokens
  return {
    logits: {
      data: dtype === 'f32' ? values : Uint16Array.from(values, dtype === 'bf16' ? numberToBf16 : numberToF16),
      shape: [tokens, VOCABULARY],
      dtype,
    },
    targets: Int32Array.from({ length: tokens }, (_, t) => (7 * t + 1 + (t % 500)) % VOCABULARY),
    mask: Uint8Array.from({ length: tokens }, () => (random.uniform() < 0.85 ? 1 : 0)),
    cuSeqlens,
    cuGroups: offsetsOf(GROUP_SIZES),
    rewards: Float32Array.from(LENGTHS, (_, i) => (i % 3 === 0 ? 1 : 0)),
    oldLogProbs: near(),
    refLogProbs: near(),
  };
}
