import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import { CLIPPED_RATIO_PARAMETERS, type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link dapo}. */
export interface DapoOptions extends PolicyOptions, ClippedRatioParameters {}

/** {@link dapo}, as the list of losses has it. */
export const dapoLoss = namedLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  name: 'dapo',
  summary: 'clipped ratios: epsilon 0.2 and 0.28, token-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIPPED_RATIO_PARAMETERS },
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.28, aggregation: 'token-mean' },
});

/**
 * DAPO (arXiv 2503.14476): GRPO's clipped ratios with a wider upper clip (0.2 below, 0.28 above), every token weighted
 * alike (`token-mean`).
 *
 * `loss = -sum_i w_i A_i s_i`, A and s as in {@link grpo}, `w_i = n_i / sum_j n_j`.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { dapo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores, metrics } = await dapo(batch);
 * console.log(loss, scores, metrics.clipFraction); // => 0.123 Float64Array(2) [ 1.28, 0.9 ] 0.667
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const dapo = dapoLoss.run;

/**
 * {@link dapo}, blocking.
 * @function
 */
export const dapoSync = dapoLoss.runSync;
