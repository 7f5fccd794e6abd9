import type { AsyncOptions } from '../backend/task.js';
import { badArgument } from '../errors.js';
import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import { discriminative } from '../objectives/discriminative.js';
import { type KlInputs, type KlParameters, klPenalty } from '../objectives/kl-penalty.js';
import { oneOf } from '../validate.js';
import type { Batch } from './batch.js';
import type { BatchGradient } from './forward.js';
import { type GradientOptions, type LossOptions, type LossResult, lossFrom, type Objective } from './loss.js';

/** Batch of {@link grpo}: optional advantages [N] and reference log-probs [T] besides the rollouts. */
export type GrpoBatch = Batch & AdvantageInputs & KlInputs;

/** Parameters of {@link grpo}. */
export interface GrpoParameters extends AdvantageParameters, KlParameters {
  /**
   * `'advantage'` (default): `-sum_i w_i A_i s_i`. `'discriminative'`: the form of arXiv 2605.12969 for binary rewards,
   * `-(1/G) sum_g sqrt(p(1-p)) (mean positive score - mean negative score)`.
   */
  form?: 'advantage' | 'discriminative';
  /** Lower clip, at 1 - epsilonLow. Default 0.2. */
  epsilonLow?: number;
  /** Upper clip, at 1 + epsilonHigh. Default 0.2. */
  epsilonHigh?: number;
}

/** Options of {@link grpo}. */
export interface GrpoOptions extends LossOptions, GrpoParameters {}

const objective: Objective<GrpoParameters, AdvantageInputs & KlInputs> = (score, batch, checked, options) => {
  const form = oneOf('form', options.form ?? 'advantage', ['advantage', 'discriminative']);
  const penalty = klPenalty(batch, checked, options);
  if (form === 'advantage') {
    const policy = advantageWeighted(score, batch, checked, options);
    return penalty === undefined
      ? policy
      : function* (level) {
          return yield* penalty(level, yield* policy(level));
        };
  }
  if (penalty) throw badArgument('ERR_RANGE', 'klCoef', "0 with form 'discriminative'", String(options.klCoef));
  if (batch.advantages !== undefined)
    throw badArgument('ERR_RANGE', 'advantages', "none with form 'discriminative'", 'an array');
  return discriminative(score, batch, checked, options);
};

const loss = lossFrom({
  score: ({ epsilonLow, epsilonHigh }: GrpoParameters) => ({ kind: 'clippedRatio', epsilonLow, epsilonHigh }),
  objective,
});

/**
 * GRPO: clipped importance ratios as scores, advantage-weighted (or in its discriminative form). With other aggregations,
 * clips and advantage estimators this is DAPO, BNPO and Dr. GRPO too.
 *
 * Returns loss, scores [N], advantages [N], metrics, and the gradient of the loss to the logits [T, V] (in their form and
 * dtype) or to the log-probs [T], whichever the batch holds.
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE` for bad arguments; `ERR_ABORTED`.
 */
export async function grpo<B extends GrpoBatch, G extends BatchGradient<B> = 'new'>(
  batch: B,
  options?: GrpoOptions & AsyncOptions & GradientOptions<G>,
): Promise<LossResult<B, G>> {
  return loss.run(batch, options);
}

/** {@link grpo}, blocking. */
export function grpoSync<B extends GrpoBatch, G extends BatchGradient<B> = 'new'>(
  batch: B,
  options?: GrpoOptions & GradientOptions<G>,
): LossResult<B, G> {
  return loss.runSync(batch, options);
}
