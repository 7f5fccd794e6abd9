import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import type { ClipParameters, PolicyOptions } from './policy.js';
import { CLIP_PARAMETERS } from './policy.js';

/** Options of {@link gmpo}. */
export interface GmpoOptions extends PolicyOptions, ClipParameters {}

/** {@link gmpo}, as the list of losses has it. */
export const gmpoLoss = namedLoss<AdvantageParameters & ClipParameters, AdvantageInputs, 'advantages'>({
  name: 'gmpo',
  summary: 'geometric mean of clipped ratios: epsilon 0.4 and 0.4, sequence-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIP_PARAMETERS },
  score: ({ epsilonLow, epsilonHigh }) => ({ kind: 'geometricRatio', epsilonLow, epsilonHigh }),
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.4, epsilonHigh: 0.4 },
});

/**
 * GMPO (arXiv 2507.20673): the geometric mean of a sequence's ratios, each clipped in log space (0.4 on either side).
 * Advantages and rollout correction are per sequence.
 *
 * `loss = -(1/N) sum_i A_i s_i` with `s_i = exp(mean_t min(d_t, epsilonHigh))` where A_i > 0, `exp(mean_t max(d_t, -epsilonLow))` where
 * A_i < 0; `d_t = logProbs - oldLogProbs`.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { gmpo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores } = await gmpo(batch, { epsilonHigh: 0.2 });
 * console.log(loss, scores); // => -0.128 Float64Array(2) [ 1.221, 0.861 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const gmpo = gmpoLoss.run;

/**
 * {@link gmpo}, blocking.
 * @function
 */
export const gmpoSync = gmpoLoss.runSync;
