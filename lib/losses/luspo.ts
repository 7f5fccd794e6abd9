import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import { CLIPPED_RATIO_PARAMETERS, type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link luspo}. */
export interface LuspoOptions extends PolicyOptions, ClippedRatioParameters {}

/** {@link luspo}, as the list of losses has it. */
export const luspoLoss = namedLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  name: 'luspo',
  summary: "GSPO's ratio, weighted by length: epsilon 3e-4 and 4e-4",
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIPPED_RATIO_PARAMETERS },
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: {
    epsilonLow: 3e-4,
    epsilonHigh: 4e-4,
    ratioLevel: 'sequence',
    aggregation: 'constant-length',
    maxLength: 1,
  },
});

/**
 * LUSPO, as in TRL (`loss_type="luspo"`): GSPO's clipped sequence ratio, each sequence weighted by its number of tokens, so that the gradient
 * of a token does not depend on the length of its sequence.
 *
 * `loss = -(1/N) sum_i n_i A_i s_i`, A and s as in {@link gspo}. The weights are those of `constant-length` with a `maxLength` of 1, which
 * are its defaults; `normalizer` stands for N.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { luspo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores } = await luspo(batch);
 * console.log(loss, scores); // => 0.353 Float64Array(2) [ 1.0004, 0.9997 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const luspo = luspoLoss.run;

/**
 * {@link luspo}, blocking.
 * @function
 */
export const luspoSync = luspoLoss.runSync;
