import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { defineLoss } from './loss.js';
import { type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Options of {@link bnpo}. */
export interface BnpoOptions extends PolicyOptions, ClippedRatioParameters {}

const loss = defineLoss<AdvantageParameters & ClippedRatioParameters, AdvantageInputs, 'advantages'>({
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.2, aggregation: 'token-mean' },
});

/**
 * BNPO, as TRL has it: GRPO's clipped ratios, every token weighted alike over the *local* batch (`token-mean`). Without a
 * `normalizer`, micro-batches are normalised one by one, and their mean is not the whole batch's loss.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const bnpo = loss.run;

/** {@link bnpo}, blocking. */
export const bnpoSync = loss.runSync;
