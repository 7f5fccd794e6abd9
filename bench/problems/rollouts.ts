// Rollouts to measure the sequence and group levels on: sequences of seeded lengths, half of each group verified.

import { Random } from './random.js';

/** Tokens of a sequence, inclusive. */
export interface Lengths {
  readonly min: number;
  readonly max: number;
}

/** Of the sections that start from logits or hidden states. */
export const LOSS_LENGTHS: Lengths = { min: 32, max: 32 };

export interface Rollouts {
  readonly cuSeqlens: Int32Array; // [N + 1]
  readonly cuGroups: Int32Array; // [G + 1]
  readonly rewards: Float64Array; // [N]
}

/** What the ops of those levels take. */
export interface ScoredRollouts extends Rollouts {
  readonly logProbs: Float64Array; // [T]
  readonly oldLogProbs: Float64Array; // [T]; some ratios to them are clipped
  readonly advantages: Float64Array; // [N], as many above as below 0, none 0
  readonly gradScores: Float64Array; // [N]
}

/** Offsets of `count` nearly equal parts, [count + 1]. */
export function evenOffsets(total: number, count: number): Int32Array {
  return Int32Array.from({ length: count + 1 }, (_, i) => Math.round((i * total) / count));
}

/** Offsets of parts with the given lengths, [lengths + 1]. */
export function offsetsOf(lengths: ArrayLike<number>): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  for (let i = 0; i < lengths.length; i++) offsets[i + 1] = offsets[i] + lengths[i];
  return offsets;
}

/** Groups of `groupSize` sequences, or a few more where it does not divide their number. */
function group(cuSeqlens: Int32Array, groupSize: number): Rollouts {
  const sequences = cuSeqlens.length - 1;
  return {
    cuSeqlens,
    cuGroups: evenOffsets(sequences, Math.max(1, Math.floor(sequences / groupSize))),
    rewards: Float64Array.from({ length: sequences }, (_, i) => (i + 1) % 2),
  };
}

const draw = ({ min, max }: Lengths, random: Random) => min + Math.floor(random.uniform() * (max - min + 1));

/** Ratios so near 1 that no loss clips any. */
const STEP = 1e-4;

/** Log-probs of the policy before its last step. */
export const oldLogProbsOf = (logProbs: Float64Array) => logProbs.map((logProb, t) => logProb + STEP * Math.sin(t));

/** As many sequences as `tokens` are enough for, the last one cut short; at least two, if there are two tokens. */
export function rolloutsOfTokens(tokens: number, lengths: Lengths, groupSize: number, seed: number): Rollouts {
  const random = new Random(seed);
  const offsets = [0];
  while (offsets[offsets.length - 1] < tokens) {
    offsets.push(Math.min(tokens, offsets[offsets.length - 1] + draw(lengths, random)));
  }
  if (offsets.length === 2 && tokens > 1) offsets.splice(1, 0, Math.floor(tokens / 2));
  return group(Int32Array.from(offsets), groupSize);
}

export function scoredRollouts(sequences: number, lengths: Lengths, groupSize: number, seed: number): ScoredRollouts {
  const random = new Random(seed);
  const cuSeqlens = offsetsOf(Array.from({ length: sequences }, () => draw(lengths, random)));
  const tokens = cuSeqlens[sequences];
  const normal = (count: number) => {
    const values = new Float64Array(count);
    random.fillNormal(values);
    return values;
  };
  const oldLogProbs = normal(tokens).map((x) => -2 - Math.abs(x));
  const steps = normal(tokens);
  return {
    ...group(cuSeqlens, groupSize),
    oldLogProbs,
    logProbs: oldLogProbs.map((x, t) => x + 0.2 * steps[t]),
    advantages: normal(sequences).map((x, i) => (i % 2 === 0 ? 0.1 + Math.abs(x) : -0.1 - Math.abs(x))),
    gradScores: normal(sequences),
  };
}
