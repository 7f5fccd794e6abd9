import type { LossOptions } from '../objectives/objective.js';
import { real as objective, REAL_PARAMETERS, type RealParameters } from '../objectives/real.js';
import { namedLoss } from './loss.js';

/** Options of {@link real}. */
export interface RealOptions extends LossOptions, RealParameters {}

/** {@link real}, as the list of losses has it. */
export const realLoss = namedLoss<RealParameters, unknown, 'groupLosses'>({
  name: 'real',
  summary: 'rewards as labels of mean log-ratios: tau 0.5',
  parameters: { ...REAL_PARAMETERS },
  score: { kind: 'logRatio' },
  objective,
});

/**
 * REAL (arXiv 2602.05630): rewards as the labels of a classifier whose score is the mean log-ratio of a sequence. The gradient of a
 * sequence is bounded, and largest where its score contradicts its label.
 *
 * `s_i = mean_t (logProbs - oldLogProbs)`, each clamped to +-20; `loss = (1/G) sum_g (log(1 + sum_{i in +} exp(-s_i / tau)) + log(1 + sum_{j in -} exp(s_j / tau)))`
 * over the positives and the negatives of group g. A group without both signs adds 0.
 *
 * Returns loss, scores [N], groupLosses [G], metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { real } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores, gradLogProbs } = await real(batch);
 * console.log(loss, scores); // => 0.992 Float64Array(2) [ 0.3, -0.15 ]
 * console.log(gradLogProbs); // => Float64Array(3) [ -0.709, 0.426, 0.426 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const real = realLoss.run;

/**
 * {@link real}, blocking.
 * @function
 */
export const realSync = realLoss.runSync;
