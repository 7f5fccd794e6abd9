// What the advantage-weighted losses share: their batch, and the options of their scores.

import type { RatioLevel } from '../kernels.js';
import type { Batch } from '../levels/batch.js';
import type { AdvantageInputs, AdvantageParameters } from '../objectives/advantage-weighted.js';
import type { LossBatch, LossOptions } from '../objectives/objective.js';
import { namesOf } from '../options.js';

/**
 * Batch of the advantage-weighted losses: optional advantages and reference log-probs [T] besides the rollouts. (With
 * advantages, they also take a batch without rewards or groups; see {@link LossBatch}.)
 */
export type PolicyBatch = Batch & AdvantageInputs;

/** Options of every advantage-weighted loss. */
export interface PolicyOptions extends LossOptions, AdvantageParameters {}

/** Bounds of the losses that clip a ratio: at 1 - epsilonLow on the negative side, at 1 + epsilonHigh on the positive. */
export interface ClipParameters {
  /** Width of the lower clip, >= 0; Infinity for none. */
  epsilonLow?: number | undefined;
  /** Width of the upper clip, >= 0; Infinity for none. */
  epsilonHigh?: number | undefined;
}

/** Of what the importance ratio of a loss is. */
export interface RatioLevelParameters {
  /**
   * `'token'`: each token's ratio; `'sequence'`: one for a sequence, exp of its mean log-ratio (TRL's `importance_sampling_level`);
   * `'sum'`: exp of the sum of its log-ratios, which is clamped to +-20 (TRL's RLOO).
   */
  ratioLevel?: RatioLevel | undefined;
}

/** Bounds of a clipped ratio, and of what it is. */
export interface ClippedRatioParameters extends ClipParameters, RatioLevelParameters {
  /** Cap of the ratio on the negative side, >= 1: dual-clip PPO's c, verl's `clip_ratio_c`. Default none. */
  dualClip?: number | undefined;
  /** Bound of the unclipped ratio, > 0: TRL's two-sided `delta`. Default none. */
  delta?: number | undefined;
}

/** Names of {@link ClipParameters}. */
export const CLIP_PARAMETERS = namesOf<ClipParameters>({ epsilonLow: true, epsilonHigh: true });

/** Names of {@link ClippedRatioParameters}. */
export const CLIPPED_RATIO_PARAMETERS = namesOf<ClippedRatioParameters>({
  ...CLIP_PARAMETERS,
  ratioLevel: true,
  dualClip: true,
  delta: true,
});

/** The clipped-ratio score of the options. */
export function clippedRatio({ epsilonLow, epsilonHigh, dualClip, delta, ratioLevel }: ClippedRatioParameters) {
  return { kind: 'clippedRatio' as const, epsilonLow, epsilonHigh, dualClip, delta, ratioLevel };
}
