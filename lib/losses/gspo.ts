import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import { CLIPPED_RATIO_PARAMETERS, type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link gspo}. */
export interface GspoOptions extends PolicyOptions, ClippedRatioParameters {}

/** {@link gspo}, as the list of losses has it. */
export const gspoLoss = namedLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  name: 'gspo',
  summary: "the sequence's ratio, clipped: epsilon 3e-4 and 4e-4, sequence-mean",
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIPPED_RATIO_PARAMETERS },
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 3e-4, epsilonHigh: 4e-4, ratioLevel: 'sequence' },
});

/**
 * GSPO (arXiv 2507.18071): one ratio per sequence, exp of its mean log-ratio, clipped as a whole (3e-4 below, 4e-4 above).
 * Each token's log-ratio is clamped to +-20 before the mean.
 *
 * `loss = -(1/N) sum_i A_i s_i` with `S_i = exp(mean_t (logProbs - oldLogProbs))` and `s_i = min(S_i, 1 + epsilonHigh)` where A_i > 0,
 * `max(S_i, 1 - epsilonLow)` where A_i < 0. Its gradient flows through S_i. Advantages per token, or a
 * rollout correction per token, give the token form of the paper instead (GSPO-token). With `ratioLevel: 'sum'` S_i is exp of the sum
 * of the log-ratios.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { gspo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores, metrics } = await gspo(batch);
 * console.log(loss, scores, metrics.clipFraction); // => -0.00025 Float64Array(2) [ 1.0004, 0.9997 ] 1
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const gspo = gspoLoss.run;

/**
 * {@link gspo}, blocking.
 * @function
 */
export const gspoSync = gspoLoss.runSync;
