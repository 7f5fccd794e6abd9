import { badArgument, describe } from '../errors.js';
import type { Batch } from '../levels/batch.js';
import {
  ADVANTAGE_PARAMETERS,
  type AdvantageInputs,
  type AdvantageParameters,
  advantageWeighted,
} from '../objectives/advantage-weighted.js';
import { discriminative } from '../objectives/discriminative.js';
import type { Objective } from '../objectives/objective.js';
import { oneOf } from '../validate.js';
import { namedLoss } from './loss.js';
import { CLIPPED_RATIO_PARAMETERS, type ClippedRatioParameters, clippedRatio, type PolicyOptions } from './policy.js';

/** Parameters of {@link grpo}. */
export interface GrpoParameters extends AdvantageParameters, ClippedRatioParameters {
  /**
   * `'advantage'` (default): `-sum_i w_i A_i s_i`. `'discriminative'`: the form of arXiv 2605.12969 for binary rewards,
   * `-(1/G) sum_g sqrt(p(1-p)) (mean positive score - mean negative score)`, which takes none of the additions.
   */
  form?: 'advantage' | 'discriminative' | undefined;
}

/** Options of {@link grpo}. */
export interface GrpoOptions extends PolicyOptions, GrpoParameters {}

/** Options that come with the form `'advantage'` only. */
const ADDITIONS = [
  ...(['aggregation', 'advantage', 'maxLength', 'rolloutCorrection'] as const),
  ...(['offPolicyMask', 'entropyQuantile', 'clipCov', 'klCov'] as const),
  ...(['distillation', 'entropyAggregation', 'perToken'] as const),
] as const;

const objective: Objective<GrpoParameters, AdvantageInputs> = function* (score, batch, checked, options) {
  const form = oneOf('form', options.form ?? 'advantage', ['advantage', 'discriminative']);
  const policy = yield* advantageWeighted(score, batch, checked, options); // also checks the options that come with either form
  if (form === 'advantage') return policy;
  const refuse = (name: string, got: unknown) =>
    badArgument('ERR_RANGE', name, "none with form 'discriminative'", `${got}`);
  if (options.klCoef) throw refuse('klCoef', options.klCoef);
  if (options.entropyCoef) throw refuse('entropyCoef', options.entropyCoef);
  for (const name of ADDITIONS) if (options[name] !== undefined) throw refuse(name, describe(options[name]));
  for (const name of ['advantages', 'tokenWeights', 'rolloutWeights'] as const) {
    if (batch[name] !== undefined) throw refuse(name, 'an array');
  }
  return yield* discriminative(score, batch as Batch, checked, options);
};

/** {@link grpo}, as the list of losses has it. */
export const grpoLoss = namedLoss<GrpoParameters, AdvantageInputs>({
  name: 'grpo',
  summary: 'clipped ratios: epsilon 0.2 and 0.2, sequence-mean',
  parameters: { ...ADVANTAGE_PARAMETERS, ...CLIPPED_RATIO_PARAMETERS, form: true },
  score: clippedRatio,
  objective,
  defaults: { epsilonLow: 0.2, epsilonHigh: 0.2 },
});

/**
 * GRPO (arXiv 2402.03300): clipped importance ratios as scores, advantage-weighted (or in its discriminative form). With other
 * aggregations, clips and advantage estimators this is DAPO, BNPO and Dr. GRPO too.
 *
 * `loss = -sum_i w_i A_i s_i` with `A = (R - mean) / (std + 1e-4)` of the group, `w_i = 1/N`, and s_i the mean over the tokens of
 * `min(r_t, 1 + epsilonHigh)` where A_i > 0, of `max(r_t, 1 - epsilonLow)` where A_i < 0; `r_t = exp(logProbs - oldLogProbs)`.
 * With `klCoef`, `+ klCoef * sum_i w_i * mean_t k_t`.
 *
 * Returns loss, scores [N], advantages, metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @example
 * ```ts
 * import { grpo } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs, advantages, metrics } = await grpo(batch, { epsilonHigh: 0.28 });
 * console.log(loss, advantages, metrics.clipFractionHigh); // => -0.134 Float64Array(2) [ 0.707, -0.707 ] 0.333
 * console.log(gradLogProbs); // => Float64Array(3) [ 0, 0.177, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 * @function
 */
export const grpo = grpoLoss.run;

/**
 * {@link grpo}, blocking.
 * @function
 */
export const grpoSync = grpoLoss.runSync;
