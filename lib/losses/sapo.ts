import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namedLoss } from './loss.js';
import type { PolicyOptions, RatioLevelParameters } from './policy.js';

/** Temperatures of the soft gate. */
export interface SapoParameters extends RatioLevelParameters {
  /** For sequences with a positive advantage, > 0. Default 1. */
  tauPos?: number | undefined;
  /** For all others, > 0. Default 1.05. */
  tauNeg?: number | undefined;
}

/** Options of {@link sapo}. */
export interface SapoOptions extends PolicyOptions, SapoParameters {}

/** {@link sapo}, as the list of losses has it. */
export const sapoLoss = namedLoss<AdvantageParameters & SapoParameters, AdvantageInputs, 'advantages'>({
  name: 'sapo',
  summary: 'soft gate on ratios: sequence-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, tauPos: true, tauNeg: true, ratioLevel: true },
  score: ({ tauPos, tauNeg, ratioLevel }) => ({ kind: 'softGate', tauPos, tauNeg, ratioLevel }),
  objective: advantageWeighted,
  defaults: { tauPos: 1, tauNeg: 1.05 },
});

/**
 * SAPO (arXiv 2511.20347): a sigmoid gate on each ratio, (4 / tau) * sigmoid(tau * (r - 1)), in place of the clip.
 *
 * `loss = -(1/N) sum_i A_i s_i` with `s_i = mean_t (4 / tau) * sigmoid(tau * (r_t - 1))`, tau = `tauPos` where A_i > 0, else `tauNeg`; A as in
 * {@link grpo}. With `ratioLevel: 'sequence'` r_t is the ratio of the whole sequence.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { sapo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores } = await sapo(batch);
 * console.log(loss, scores); // => -0.202 Float64Array(2) [ 2.346, 1.776 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const sapo = sapoLoss.run;

/**
 * {@link sapo}, blocking.
 * @function
 */
export const sapoSync = sapoLoss.runSync;
