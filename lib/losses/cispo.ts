import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import type { PolicyOptions } from './policy.js';

/** Bounds of the stopped ratio, absolute. */
export interface CispoParameters {
  /** Lower bound of the ratio itself, >= 0 (not of its distance from 1). Default 0. */
  ratioMin?: number;
  /** Upper bound of the ratio itself. Default 5; TRL's `epsilon_high` for CISPO is the same number. */
  ratioMax?: number;
}

/** Options of {@link cispo}. */
export interface CispoOptions extends PolicyOptions, CispoParameters {}

const loss = defineLoss<AdvantageParameters & CispoParameters, AdvantageInputs, 'advantages'>({
  score: ({ ratioMin, ratioMax }) => ({ kind: 'stoppedRatio', ratioMin, ratioMax }),
  objective: advantageWeighted,
  defaults: { ratioMin: 0, ratioMax: 5, aggregation: 'token-mean' },
});

/**
 * CISPO (arXiv 2506.13585): REINFORCE weighted by the importance ratio, which is clipped into [ratioMin, ratioMax] and held
 * constant, so that no token loses its gradient. The bounds are absolute: other projects give them as 1 - epsilon and
 * 1 + epsilon.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const cispo = loss.run;

/** {@link cispo}, blocking. */
export const cispoSync = loss.runSync;
