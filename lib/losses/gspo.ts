import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import type { ClipParameters, PolicyOptions } from './policy.js';

/** Options of {@link gspo}. */
export interface GspoOptions extends PolicyOptions, ClipParameters {}

const loss = defineLoss<AdvantageParameters & ClipParameters, AdvantageInputs, 'advantages'>({
  score: ({ epsilonLow, epsilonHigh }) => ({ kind: 'sequenceRatio', epsilonLow, epsilonHigh }),
  objective: advantageWeighted,
  defaults: { epsilonLow: 3e-4, epsilonHigh: 4e-4 },
});

/**
 * GSPO (arXiv 2507.18071): one ratio per sequence, exp of its mean log-ratio, clipped as a whole (3e-4 below, 4e-4 above).
 * With advantages per token it is GSPO-token.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const gspo = loss.run;

/** {@link gspo}, blocking. */
export const gspoSync = loss.runSync;
