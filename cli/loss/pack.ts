import { fromDense } from '../../lib/index.js';
import type { Rollout } from './rollout-lines.js';

/** Rollouts as the losses take them: sequence i is rollout i, groups are in the order of their first line. */
export interface PackedRollouts {
  readonly groupNames: readonly string[]; // [G]
  readonly batch: {
    readonly logProbs: Float64Array; // [T]
    readonly oldLogProbs?: Float64Array; // [T]
    readonly refLogProbs?: Float64Array; // [T]
    readonly rolloutLogProbs?: Float64Array; // [T]
    readonly teacherLogProbs?: Float64Array; // [T]
    readonly tokenWeights?: Float64Array; // [T]
    readonly rolloutWeights?: Float64Array; // [T]
    readonly mask?: Uint8Array; // [T]
    readonly cuSeqlens: Int32Array; // [N + 1]
    readonly cuGroups: Int32Array; // [G + 1]
    readonly groupOrder: Int32Array | undefined; // [N]
    readonly rewards: Float64Array; // [N]
    readonly advantages?: Float64Array; // [N]
  };
}

export function packRollouts(rollouts: readonly Rollout[]): PackedRollouts {
  const names = rollouts.map(({ group }) => group);
  const cuSeqlens = new Int32Array(rollouts.length + 1);
  rollouts.forEach(({ logProbs }, i) => {
    cuSeqlens[i + 1] = cuSeqlens[i] + logProbs.length;
  });
  const concatenate = (part: (rollout: Rollout) => Float64Array | undefined): Float64Array | undefined => {
    if (rollouts.length === 0 || part(rollouts[0]) === undefined) return undefined;
    const whole = new Float64Array(cuSeqlens[rollouts.length]);
    rollouts.forEach((rollout, i) => {
      whole.set(part(rollout) ?? [], cuSeqlens[i]);
    });
    return whole;
  };
  const given = rollouts.length > 0 && rollouts[0].advantage !== undefined;
  return {
    groupNames: [...new Set(names)],
    batch: {
      logProbs: concatenate(({ logProbs }) => logProbs) ?? new Float64Array(0),
      oldLogProbs: concatenate(({ oldLogProbs }) => oldLogProbs),
      refLogProbs: concatenate(({ refLogProbs }) => refLogProbs),
      rolloutLogProbs: concatenate(({ rolloutLogProbs }) => rolloutLogProbs),
      teacherLogProbs: concatenate(({ teacherLogProbs }) => teacherLogProbs),
      tokenWeights: concatenate(({ tokenWeights }) => tokenWeights),
      rolloutWeights: concatenate(({ rolloutWeights }) => rolloutWeights),
      mask: packMask(rollouts, cuSeqlens),
      cuSeqlens,
      ...fromDense(names),
      rewards: Float64Array.from(rollouts, ({ reward }) => reward),
      advantages: given ? Float64Array.from(rollouts, ({ advantage }) => advantage ?? Number.NaN) : undefined,
    },
  };
}

/** Lines may leave the mask out: all their tokens count then. */
function packMask(rollouts: readonly Rollout[], cuSeqlens: Int32Array): Uint8Array | undefined {
  if (rollouts.every(({ mask }) => mask === undefined)) return undefined;
  const whole = new Uint8Array(cuSeqlens[rollouts.length]).fill(1);
  rollouts.forEach(({ mask }, i) => {
    if (mask !== undefined) whole.set(mask, cuSeqlens[i]);
  });
  return whole;
}
