import type { Rollout } from './rollout-lines.js';

/** One group of a packed batch: sequences `start … end`. */
export interface PackedGroup {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** Rollouts as the losses take them: the sequences of a group side by side, groups in the order of their first line. */
export interface PackedRollouts {
  readonly groups: readonly PackedGroup[]; // [G]
  /** Which rollout sequence i came from. */
  readonly order: readonly number[]; // [N]
  readonly batch: {
    readonly logProbs: Float64Array; // [T]
    readonly oldLogProbs?: Float64Array; // [T]
    readonly refLogProbs?: Float64Array; // [T]
    readonly mask?: Uint8Array; // [T]
    readonly cuSeqlens: Int32Array; // [N + 1]
    readonly cuGroups: Int32Array; // [G + 1]
    readonly rewards: Float64Array; // [N]
  };
}

export function packRollouts(rollouts: readonly Rollout[]): PackedRollouts {
  const members = new Map<string, number[]>();
  rollouts.forEach(({ group }, i) => {
    const known = members.get(group);
    if (known === undefined) members.set(group, [i]);
    else known.push(i);
  });
  const order = [...members.values()].flat();
  const sequences = order.map((i) => rollouts[i]);
  const cuSeqlens = cumulate(sequences.map(({ logProbs }) => logProbs.length));
  const cuGroups = cumulate([...members.values()].map(({ length }) => length));
  const tokens = cuSeqlens[order.length];
  const concatenate = (part: (rollout: Rollout) => Float64Array | undefined): Float64Array | undefined => {
    if (sequences.length === 0 || part(sequences[0]) === undefined) return undefined;
    const whole = new Float64Array(tokens);
    sequences.forEach((rollout, i) => {
      whole.set(part(rollout) ?? [], cuSeqlens[i]);
    });
    return whole;
  };
  return {
    groups: [...members.keys()].map((name, g) => ({ name, start: cuGroups[g], end: cuGroups[g + 1] })),
    order,
    batch: {
      logProbs: concatenate(({ logProbs }) => logProbs) ?? new Float64Array(0),
      oldLogProbs: concatenate(({ oldLogProbs }) => oldLogProbs),
      refLogProbs: concatenate(({ refLogProbs }) => refLogProbs),
      mask: packMask(sequences, cuSeqlens),
      cuSeqlens,
      cuGroups,
      rewards: Float64Array.from(sequences, ({ reward }) => reward),
    },
  };
}

/** Lines may leave the mask out: all their tokens count then. */
function packMask(sequences: readonly Rollout[], cuSeqlens: Int32Array): Uint8Array | undefined {
  if (sequences.every(({ mask }) => mask === undefined)) return undefined;
  const whole = new Uint8Array(cuSeqlens[sequences.length]).fill(1);
  sequences.forEach(({ mask }, i) => {
    if (mask !== undefined) whole.set(mask, cuSeqlens[i]);
  });
  return whole;
}

function cumulate(lengths: readonly number[]): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((length, i) => {
    offsets[i + 1] = offsets[i] + length;
  });
  return offsets;
}
