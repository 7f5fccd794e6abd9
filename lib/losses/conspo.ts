import { infoNCE } from '../objectives/info-nce.js';
import type { LossOptions } from '../objectives/objective.js';
import type { InfoNCEParameters } from '../ops/group-info-nce.js';
import { INFO_NCE_PARAMETERS } from '../ops/group-info-nce.js';
import { namedLoss } from './loss.js';

/** Options of {@link conspo}. */
export interface ConspoOptions extends LossOptions, InfoNCEParameters {}

/** {@link conspo}, as the list of losses has it. */
export const conspoLoss = namedLoss<InfoNCEParameters, unknown, 'groupLosses'>({
  name: 'conspo',
  summary: 'InfoNCE on mean log-probs: tau 0.1',
  parameters: { ...INFO_NCE_PARAMETERS },
  score: 'logLikelihood',
  objective: infoNCE,
});

/**
 * ConSPO (arXiv 2605.12969): length-normalised log-likelihood scores, and InfoNCE of each verified positive against the
 * negatives of its group, with a margin (see {@link cosineMargin} for its curriculum). The defaults tau 0.1 and margin 0
 * are this package's choice.
 *
 * `s_i = (1/n_i) sum_t logProbs[t]`; `loss = -(1/G) sum_g (1/N+) sum_{i in +} -tau * softplus(b_g - (s_i - margin) / tau)` with
 * `b_g = log sum_{j in -} exp(s_j / tau)`, over the positives and negatives of group g.
 *
 * Returns loss, scores [N], groupLosses [G], metrics, and the gradient of the loss to the logits [T, V] (in their form
 * and dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { conspo, cosineMargin } from 'rlvr-kernels';
 *
 * const margin = cosineMargin({ target: 0.2, warmup: 0.5 })(0.25); // a quarter of the training is done
 * const { loss, gradLogits, metrics } = await conspo(
 *   {
 *     logits: Float32Array.of(2, 0, 0, 0, 2, 0, 0, 0, 2), // [T, V] = [3, 3], from your model
 *     targets: Int32Array.of(0, 1, 2), // [T] the sampled tokens
 *     cuSeqlens: Int32Array.of(0, 1, 3), // an answer of one token, and one of two
 *     cuGroups: Int32Array.of(0, 2), // both answer the same question
 *     rewards: Float32Array.of(1, 0), // the verifier's verdicts
 *   },
 *   { tau: 0.1, margin },
 * );
 * console.log(loss, metrics.scoreGap); // => 0.131 0
 * console.log(gradLogits.subarray(0, 3)); // => Float32Array(3) [ -0.156, 0.078, 0.078 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const conspo = conspoLoss.run;

/**
 * {@link conspo}, blocking.
 * @function
 */
export const conspoSync = conspoLoss.runSync;
