import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import { CLIPPED_RATIO_PARAMETERS, type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link bnpo}. */
export interface BnpoOptions extends PolicyOptions, ClippedRatioParameters {}

/** {@link bnpo}, as the list of losses has it. */
export const bnpoLoss = namedLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  name: 'bnpo',
  summary: 'clipped ratios: epsilon 0.2 and 0.2, token-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIPPED_RATIO_PARAMETERS },
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.2, aggregation: 'token-mean' },
});

/**
 * BNPO, as in TRL: GRPO's clipped ratios, every token weighted alike over the *local* batch (`token-mean`). Without a
 * `normalizer`, micro-batches are normalised one by one, and their mean is not the whole batch's loss.
 *
 * `loss = -sum_i w_i A_i s_i`, A and s as in {@link grpo}, `w_i = n_i / sum_j n_j` over this call's sequences.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { bnpo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const alone = await bnpo(batch); // divided by its own 3 tokens
 * const part = await bnpo(batch, { normalizer: 12 }); // as one of several micro-batches, of 12 tokens together
 * console.log(alone.loss, part.loss); // => 0.141 0.035
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const bnpo = bnpoLoss.run;

/**
 * {@link bnpo}, blocking.
 * @function
 */
export const bnpoSync = bnpoLoss.runSync;
