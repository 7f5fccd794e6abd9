import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import type { PolicyOptions, RatioLevelParameters } from './policy.js';

/** Bounds of the stopped ratio, absolute. */
export interface CispoParameters extends RatioLevelParameters {
  /** Lower bound of the ratio itself, >= 0 (not of its distance from 1). Default 0. */
  ratioMin?: number | undefined;
  /** Upper bound of the ratio itself; Infinity for none. Default 5; TRL's `epsilon_high` for CISPO is the same number. */
  ratioMax?: number | undefined;
}

/** Options of {@link cispo}. */
export interface CispoOptions extends PolicyOptions, CispoParameters {}

/** {@link cispo}, as the list of losses has it. */
export const cispoLoss = namedLoss<AdvantageParameters & CispoParameters, AdvantageInputs, 'advantages'>({
  name: 'cispo',
  summary: 'log-probs weighted by stopped ratios: token-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, ratioMin: true, ratioMax: true, ratioLevel: true },
  score: ({ ratioMin, ratioMax, ratioLevel }) => ({ kind: 'stoppedRatio', ratioMin, ratioMax, ratioLevel }),
  objective: advantageWeighted,
  defaults: { ratioMin: 0, ratioMax: 5, aggregation: 'token-mean' },
});

/**
 * CISPO (arXiv 2506.13585): REINFORCE weighted by the importance ratio, which is clipped into [ratioMin, ratioMax] and held
 * constant, so that no token loses its gradient. The bounds are absolute: other projects give them as 1 - epsilon and
 * 1 + epsilon.
 *
 * `loss = -sum_i w_i A_i s_i` with `s_i = mean_t clamp(r_t, ratioMin, ratioMax) * logProbs[t]`, the clamped ratio a constant, and
 * `w_i = n_i / sum_j n_j`; A as in {@link grpo}. With `ratioLevel: 'sequence'` r_t is the ratio of the whole sequence.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { cispo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs, metrics } = await cispo(batch, { ratioMax: 1.28 }); // verl's clip_ratio_high 0.28
 * console.log(loss, metrics.clipFractionHigh); // => -0.245 0.333
 * console.log(gradLogProbs); // => Float64Array(3) [ -0.302, 0.236, 0.175 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const cispo = cispoLoss.run;

/**
 * {@link cispo}, blocking.
 * @function
 */
export const cispoSync = cispoLoss.runSync;
