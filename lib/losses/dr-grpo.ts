import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import { type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link drGrpo}. */
export interface DrGrpoOptions extends PolicyOptions, ClippedRatioParameters {}

const loss = defineLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.2, aggregation: 'constant-length', advantage: { estimator: 'drGrpo' } },
});

/**
 * Dr. GRPO (arXiv 2503.20783): clipped ratios, advantages R - mean, and a constant in place of each sequence's own length:
 * `maxLength` is required.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const drGrpo = loss.run;

/** {@link drGrpo}, blocking. */
export const drGrpoSync = loss.runSync;
