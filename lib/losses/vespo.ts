import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { namesOf } from '../options.js';
import { namedLoss } from './loss.js';
import type { PolicyOptions } from './policy.js';

/** The weight of {@link vespo} as a function of a sequence's ratio. */
export interface VespoParameters {
  /** Its exponent k where the advantage is positive or 0, >= 0. Default 2. */
  kPos?: number | undefined;
  /** Its lambda there, > 0. Default 3. */
  lambdaPos?: number | undefined;
  /** k where the advantage is negative. Default 3. */
  kNeg?: number | undefined;
  /** lambda there. Default 2. */
  lambdaNeg?: number | undefined;
}

/** Options of {@link vespo}. */
export interface VespoOptions extends Omit<PolicyOptions, 'rolloutCorrection'>, VespoParameters {}

const { rolloutCorrection: _own, ...ADVANTAGES } = ADVANTAGE_PARAMETERS;

/** {@link vespo}, as the list of losses has it. */
export const vespoLoss = namedLoss<
  Omit<AdvantageParameters, 'rolloutCorrection'> & VespoParameters,
  AdvantageInputs,
  'advantages'
>({
  name: 'vespo',
  summary: "a gamma weight on the whole sequence's ratio: token-mean",
  parameters: {
    ...ADVANTAGES,
    ...namesOf<VespoParameters>({ kPos: true, lambdaPos: true, kNeg: true, lambdaNeg: true }),
  },
  score: ({ kPos, lambdaPos, kNeg, lambdaNeg }) => ({ kind: 'gammaWeight', kPos, lambdaPos, kNeg, lambdaNeg }),
  objective: advantageWeighted,
  defaults: { kPos: 2, lambdaPos: 3, kNeg: 3, lambdaNeg: 2, aggregation: 'token-mean' },
});

/**
 * VESPO, as in TRL (`loss_type="vespo"`): REINFORCE weighted by a smooth function of the importance ratio of the whole sequence, which
 * falls on both sides of a maximum near 1. With `rolloutLogProbs` in the batch, the ratio is to the policy of the inference engine: that
 * is its rollout correction, and it takes no other.
 *
 * `loss = -sum_i w_i A_i s_i` with `s_i = phi(W_i) * mean_t logProbs[t]`, phi a constant, and `w_i = n_i / sum_j n_j`; `log phi(W) = lambda + k * log W - lambda * W`,
 * `log W_i = sum_t (logProbs - oldLogProbs)`, plus `sum_t (oldLogProbs - rolloutLogProbs)`, each term clamped to +-20, the sum to
 * [log 1e-8, 20]; k and lambda by the sign of A_i, which is as in {@link grpo}.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { vespo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs } = await vespo(batch);
 * console.log(loss, gradLogProbs); // => -0.210 Float64Array(3) [ -0.150, 0.161, 0.161 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const vespo = vespoLoss.run;

/**
 * {@link vespo}, blocking.
 * @function
 */
export const vespoSync = vespoLoss.runSync;
