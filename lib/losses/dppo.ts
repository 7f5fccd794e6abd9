import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { oneOf } from '../validate.js';
import { namedLoss } from './loss.js';
import type { PolicyOptions } from './policy.js';

/** The trust region of {@link dppo}. */
export interface DppoParameters {
  /**
   * How far a token has moved: `'tv'` (default), the difference of its probabilities, or `'kl'`, the KL of the old probability from
   * the current one, each against that of all other tokens.
   */
  divergence?: 'tv' | 'kl' | undefined;
  /** How far down a token may have moved where the advantage is not positive, >= 0; Infinity for any. Default 0.2. */
  epsilonLow?: number | undefined;
  /** How far up where the advantage is positive, >= 0; Infinity for any. Default 0.2. */
  epsilonHigh?: number | undefined;
  /** Upper bound of the ratio itself, >= 0; Infinity for none. Default 20. */
  ratioMax?: number | undefined;
}

/** Options of {@link dppo}. */
export interface DppoOptions extends PolicyOptions, DppoParameters {}

/** {@link dppo}, as the list of losses has it. */
export const dppoLoss = namedLoss<AdvantageParameters & DppoParameters, AdvantageInputs, 'advantages'>({
  name: 'dppo',
  summary: 'stopped ratios in a trust region of 0.2: token-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, divergence: true, epsilonLow: true, epsilonHigh: true, ratioMax: true },
  score: ({ divergence, epsilonLow, epsilonHigh, ratioMax }) => ({
    kind: oneOf('divergence', divergence ?? 'tv', ['tv', 'kl']) === 'tv' ? 'trustRegionTv' : 'trustRegionKl',
    epsilonLow,
    epsilonHigh,
    ratioMax,
  }),
  objective: advantageWeighted,
  defaults: { divergence: 'tv', epsilonLow: 0.2, epsilonHigh: 0.2, ratioMax: 20, aggregation: 'token-mean' },
});

/**
 * DPPO (arXiv 2602.04879): REINFORCE weighted by the importance ratio, which is capped and held constant, on those tokens whose
 * probability has not yet moved too far to where the advantage pushes it. The distance is of probabilities, not of their ratio, so
 * rare tokens are not the first to lose their gradient. Its metrics of clipping are of tokens outside the trust region.
 *
 * `loss = -sum_i w_i A_i s_i` with `s_i = mean_t v_t * min(r_t, ratioMax) * logProbs[t]`, what multiplies the log-prob a constant, and
 * `w_i = n_i / sum_j n_j`; `v_t = 0` where A_i > 0 and `D_t > epsilonHigh`, or A_i <= 0 and `D_t < -epsilonLow`, else 1. D is `p - p_old`, or
 * `sign(p - p_old) * (p_old * log(p_old / p) + (1 - p_old) * log((1 - p_old) / (1 - p)))`; A as in {@link grpo}.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { dppo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs, metrics } = await dppo(batch, { epsilonHigh: 0.1 });
 * console.log(loss, metrics.clipFractionHigh); // => -0.275 0.333
 * console.log(gradLogProbs); // => Float64Array(3) [ 0, 0.236, 0.175 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const dppo = dppoLoss.run;

/**
 * {@link dppo}, blocking.
 * @function
 */
export const dppoSync = dppoLoss.runSync;
