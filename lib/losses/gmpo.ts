import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import type { ClipParameters, PolicyOptions } from './policy.js';

/** Options of {@link gmpo}. */
export interface GmpoOptions extends PolicyOptions, ClipParameters {}

const loss = defineLoss<AdvantageParameters & ClipParameters, AdvantageInputs, 'advantages'>({
  score: ({ epsilonLow, epsilonHigh }) => ({ kind: 'geometricRatio', epsilonLow, epsilonHigh }),
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.4, epsilonHigh: 0.4 },
});

/**
 * GMPO (arXiv 2507.20673): the geometric mean of a sequence's ratios, each clipped in log space (0.4 on either side).
 * Advantages and rollout correction are per sequence.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const gmpo = loss.run;

/** {@link gmpo}, blocking. */
export const gmpoSync = loss.runSync;
