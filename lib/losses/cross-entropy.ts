import type { LayerPlaces } from '../layer.js';
import type { Rewarded, SequenceBatch } from '../levels/batch.js';
import type { LossGradient } from '../levels/gradient.js';
import { newArray } from '../memory.js';
import { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from '../objectives/advantage-weighted.js';
import type { LossOptions, Objective } from '../objectives/objective.js';
import { AGGREGATION_PARAMETERS } from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import type { AsyncOptions } from '../run/task.js';
import type { FloatArray } from '../validate.js';
import { type GradientOptions, type LossResult, namedLoss, type Place, type PlaceFor } from './loss.js';

/** Parameters of {@link crossEntropy}. */
export type CrossEntropyParameters = Pick<AdvantageParameters, 'aggregation' | 'maxLength' | 'normalizer' | 'perToken'>;

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends LossOptions, CrossEntropyParameters {}

/** Batch of {@link crossEntropy}: that of every loss, which needs neither rewards nor groups here. */
export type CrossEntropyBatch = SequenceBatch & { [K in keyof Rewarded]?: Rewarded[K] | undefined } & {
  /** [T] constants, at least 0, that multiply the terms of tokens. The denominators remain: see `normalizer`. */
  tokenWeights?: FloatArray | undefined;
};

/** Every answer is to be learnt: the weighted log-likelihood, with an advantage of 1. */
const objective: Objective<CrossEntropyParameters, AdvantageInputs> = function* (score, batch, checked, options) {
  const advantages = newArray('advantages', Float64Array, checked.sequences).fill(1);
  const weighted = { ...batch, advantages, rolloutWeights: undefined };
  const { evaluate, ...prepared } = yield* advantageWeighted(score, weighted, checked, options);
  return {
    ...prepared,
    *evaluate(level) {
      const { advantages: _ones, ...result } = yield* evaluate(level);
      return result;
    },
  };
};

const loss = namedLoss<CrossEntropyParameters, AdvantageInputs>({
  name: 'crossEntropy',
  summary: 'negative log-likelihood, token-mean',
  parameters: namesOf<CrossEntropyParameters>({ ...AGGREGATION_PARAMETERS, perToken: true }),
  score: 'logLikelihood',
  objective,
  defaults: { aggregation: 'token-mean' },
});

/**
 * Cross-entropy of the sampled tokens, for warm starts and supervised fine-tuning, on the batch of every loss: `-sum w_t log p_t` over the
 * tokens that count, over their number (other aggregations as in {@link grpo}). Rewards, advantages and rollout weights play no part.
 *
 * Returns loss, scores [N] (the mean log-probs, weighted), metrics, and the gradient, as every loss does.
 *
 * @example
 * ```ts
 * import { crossEntropy } from 'rlvr-kernels';
 *
 * const { loss, gradLogits } = await crossEntropy({
 *   logits: Float32Array.of(0, 0, 2, 0, 0, 0), // [T, V] = [3, 2]
 *   targets: Int32Array.of(1, 0, 1),
 *   mask: Uint8Array.of(1, 1, 0), // the last token does not count
 *   cuSeqlens: Int32Array.of(0, 3),
 * });
 * console.log(loss, gradLogits); // => 0.410 Float32Array(6) [ 0.25, -0.25, -0.060, 0.060, 0, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function crossEntropy<
  B extends CrossEntropyBatch,
  G extends LossGradient<B> = 'new',
  H extends Place = PlaceFor<G>,
  W extends Place = PlaceFor<G>,
  C extends Place = PlaceFor<G>,
>(
  batch: B,
  options?: CrossEntropyOptions & GradientOptions<G> & LayerPlaces<H, W, C> & AsyncOptions,
): Promise<LossResult<B, G, never, LayerPlaces<H, W, C>>> {
  return loss.run(batch as never, options as never);
}

/** {@link crossEntropy}, blocking. */
export function crossEntropySync<
  B extends CrossEntropyBatch,
  G extends LossGradient<B> = 'new',
  H extends Place = PlaceFor<G>,
  W extends Place = PlaceFor<G>,
  C extends Place = PlaceFor<G>,
>(
  batch: B,
  options?: CrossEntropyOptions & GradientOptions<G> & LayerPlaces<H, W, C>,
): LossResult<B, G, never, LayerPlaces<H, W, C>> {
  return loss.runSync(batch as never, options as never);
}
