import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import { type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link dapo}. */
export interface DapoOptions extends PolicyOptions, ClippedRatioParameters {}

const loss = defineLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.28, aggregation: 'token-mean' },
});

/**
 * DAPO (arXiv 2503.14476): GRPO's clipped ratios with a wider upper clip (0.2 below, 0.28 above), every token weighted
 * alike (`token-mean`).
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const dapo = loss.run;

/** {@link dapo}, blocking. */
export const dapoSync = loss.runSync;
