import { type DiscoParameters, disco as objective } from '../objectives/disco.js';
import { oneOf } from '../validate.js';
import { defineLoss, type LossOptions } from './loss.js';

/** Parameters of {@link disco}. */
export interface DiscoLossParameters extends DiscoParameters {
  /** Scores: mean log-prob (default), or mean importance ratio. */
  score?: 'logLikelihood' | 'ratio';
  /** Temperature of the negatives' soft maximum, > 0; null for the plain difference of means. Default 10, 1 on ratios. */
  tau?: number | null;
}

/** Options of {@link disco}. */
export interface DiscoOptions extends LossOptions, DiscoLossParameters {}

const loss = defineLoss<DiscoLossParameters, unknown, 'groupLosses'>({
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
 * Returns loss, scores [N], groupLosses [G], metrics, and the gradient of the loss to the logits [T, V] (in their form
 * and dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const disco = loss.run;

/** {@link disco}, blocking. */
export const discoSync = loss.runSync;
