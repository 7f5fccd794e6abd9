import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import type { Aggregation } from '../ops/advantage-objective.js';
import { namedLoss } from './loss.js';
import { CLIPPED_RATIO_PARAMETERS, type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** What the options of {@link drGrpo} may not lack: the length that it divides by, or an aggregation that has none. */
export type DrGrpoLength =
  | {
      /** Tokens, > 0: what every sequence's sum is divided by. */
      maxLength: number;
    }
  | {
      /** One that divides by lengths of the batch. */
      aggregation: Exclude<Aggregation, 'constant-length'>;
    };

/** Options of {@link drGrpo}. */
export type DrGrpoOptions = PolicyOptions & ClippedRatioParameters & DrGrpoLength;

/** {@link drGrpo}, as the list of losses has it. */
export const drGrpoLoss = namedLoss<
  AdvantageParameters & ClippedRatioParameters,
  AdvantageInputs,
  'advantages',
  DrGrpoLength
>({
  name: 'drGrpo',
  summary: 'clipped ratios: epsilon 0.2 and 0.2, constant-length, advantage drGrpo',
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIPPED_RATIO_PARAMETERS },
  score: clippedRatio,
  objective: advantageWeighted,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.2, aggregation: 'constant-length', advantage: { estimator: 'drGrpo' } },
});

/**
 * Dr. GRPO (arXiv 2503.20783): clipped ratios, advantages R - mean, and a constant in place of each sequence's own length:
 * `maxLength` is required.
 *
 * `loss = -sum_i w_i A_i s_i`, s as in {@link grpo}, `A = R - mean`, `w_i = n_i / (N * maxLength)`.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { drGrpo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, advantages } = await drGrpo(batch, { maxLength: 8 }); // the longest answer you allow, in tokens
 * console.log(loss, advantages); // => 0.019 Float64Array(2) [ 0.5, -0.5 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const drGrpo = drGrpoLoss.run;

/**
 * {@link drGrpo}, blocking.
 * @function
 */
export const drGrpoSync = drGrpoLoss.runSync;
