import { infoNCE } from '../objectives/info-nce.js';
import type { InfoNCEParameters } from '../ops/group-info-nce.js';
import { defineLoss, type LossOptions } from './loss.js';

/** Options of {@link conspo}. */
export interface ConspoOptions extends LossOptions, InfoNCEParameters {}

const loss = defineLoss<InfoNCEParameters, unknown, 'groupLosses'>({ score: 'logLikelihood', objective: infoNCE });

/**
 * ConSPO (arXiv 2605.12969): length-normalised log-likelihood scores, and InfoNCE of each verified positive against the
 * negatives of its group, with a margin (see {@link cosineMargin} for its curriculum). The defaults tau 0.1 and margin 0
 * are this package's choice.
 *
 * Returns loss, scores [N], groupLosses [G], metrics, and the gradient of the loss to the logits [T, V] (in their form
 * and dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export const conspo = loss.run;

/** {@link conspo}, blocking. */
export const conspoSync = loss.runSync;
