import { DISCO_PARAMETERS, type DiscoParameters, disco as objective } from '../objectives/disco.js';
import type { LossOptions } from '../objectives/objective.js';
import { oneOf } from '../validate.js';
import { namedLoss } from './loss.js';

/** Parameters of {@link disco}. */
export interface DiscoLossParameters extends DiscoParameters {
  /** Scores: mean log-prob (default), or mean importance ratio. */
  score?: 'logLikelihood' | 'ratio' | undefined;
  /** Temperature of the negatives' soft maximum, > 0; null for the plain difference of means. Default 10, 1 on ratios. */
  tau?: number | null | undefined;
}

/** Options of {@link disco}. */
export interface DiscoOptions extends LossOptions, DiscoLossParameters {}

/** {@link disco}, as the list of losses has it. */
export const discoLoss = namedLoss<DiscoLossParameters, unknown, 'groupLosses'>({
  name: 'disco',
  summary: 'positives against a soft maximum of negatives: tau 10 or, on ratios, 1',
  parameters: { ...DISCO_PARAMETERS, score: true },
  score: ({ score }) => ({ kind: oneOf('score', score ?? 'logLikelihood', ['logLikelihood', 'ratio']) }),
  objective: (score, batch, checked, options) => {
    const tau = options.tau === undefined && options.score === 'ratio' ? 1 : options.tau;
    return objective(score, batch, checked, { ...options, tau });
  },
});

/**
 * DisCO (arXiv 2505.12366): per group, the mean positive score against the soft maximum of the negative ones, without clip
 * or difficulty weight; optionally with its squared-hinge constraint on KL to the behaviour policy.
 *
 * `loss = -(1/G) sum_g (mean s+ - tau * log(mean exp(s- / tau)))` over the positives and the negatives of group g, with `tau: null`
 * `-(1/G) sum_g (mean s+ - mean s-)`; `+ beta/2 * max(KL - delta, 0)^2` with `klConstraint`.
 *
 * Returns loss, scores [N], groupLosses [G], metrics, and the gradient of the loss to the logits [T, V] (in their form
 * and dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { disco } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, groupLosses } = await disco(batch);
 * const onRatios = await disco(batch, { score: 'ratio', klConstraint: { beta: 1e3, delta: 1e-4 } });
 * console.log(loss, groupLosses, onRatios.loss); // => -0.6 Float64Array(1) [ -0.6 ] -0.479
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const disco = discoLoss.run;

/**
 * {@link disco}, blocking.
 * @function
 */
export const discoSync = discoLoss.runSync;
