import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import type { PolicyOptions } from './policy.js';

/** Temperatures of the soft gate. */
export interface SapoParameters {
  /** For sequences with a positive advantage, > 0. Default 1. */
  tauPos?: number;
  /** For all others, > 0. Default 1.05. */
  tauNeg?: number;
}

/** Options of {@link sapo}. */
export interface SapoOptions extends PolicyOptions, SapoParameters {}

const loss = defineLoss<AdvantageParameters & SapoParameters, AdvantageInputs, 'advantages'>({
  score: ({ tauPos, tauNeg }) => ({ kind: 'softGate', tauPos, tauNeg }),
  objective: advantageWeighted,
  defaults: { tauPos: 1, tauNeg: 1.05 },
});

/**
 * SAPO (arXiv 2511.20347): a sigmoid gate on each ratio, (4 / tau) * sigmoid(tau * (r - 1)), in place of the clip.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const sapo = loss.run;

/** {@link sapo}, blocking. */
export const sapoSync = loss.runSync;
