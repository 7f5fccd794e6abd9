// A penalty on KL to a reference policy (spec section 4): one more score, weighted like the policy's.

import { badArgument } from '../errors.js';
import { constantLogProbs } from '../levels/batch.js';
import { klTask, type Score, tokenRules } from '../levels/scores.js';
import {
  type AggregationParameters,
  aggregationWeights,
  weightedSumGradient,
  weightedSumTask,
} from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import { KL_ESTIMATORS, type KlEstimator, type KlScore, ratioLevelOf } from '../ratio-score.js';
import type { Sliced } from '../slices.js';
import { type FloatArray, finiteNumber, ifGiven, oneOf } from '../validate.js';
import type { CheckedBatch, Extension } from './objective.js';
import { wholeWeights } from './whole-batch.js';

/** Further field in the batch of losses with a KL penalty. */
export interface KlInputs {
  /** [T] log-probs under the reference policy, constants; needed with `klCoef`, unless `klReference` is `'old'`. */
  refLogProbs?: FloatArray | undefined;
}

/** Parameters of the KL penalty: the loss gets `klCoef * sum_i w_i * mean_t k_t`, with the weights of the policy term. */
export interface KlParameters {
  /** Weight of the KL penalty, >= 0. Default 0. */
  klCoef?: number | undefined;
  /**
   * Its estimator, with d = ref - current: k1 -d, k2 d^2/2, k3 e^d - d - 1, abs |d|; `'k1+'` and `'k3+'` have the value of k1 and
   * k3, and the gradient of k2 (verl). Default `'k3'`.
   */
  klEstimator?: KlEstimator | undefined;
  /** The policy that it keeps near to: that of `refLogProbs` (default), or `'old'`, that of `oldLogProbs`. */
  klReference?: 'ref' | 'old' | undefined;
  /** Cap of each token's estimate, > 0; its gradient is 0 beyond, except k2's in `'k1+'` and `'k3+'`. Default none; verl's is 10. */
  klMax?: number | undefined;
  /**
   * `'ratio'` multiplies each estimate by the importance ratio, its gradient included (TRL's `use_bias_correction_kl`): the ratio
   * of its token, or of its sequence where the loss's score is on that. Default `'none'`.
   */
  klWeight?: 'none' | 'ratio' | undefined;
}

/** Names of {@link KlParameters}. */
export const KL_PARAMETERS = namesOf<KlParameters>({
  klCoef: true,
  klEstimator: true,
  klReference: true,
  klMax: true,
  klWeight: true,
});

/** Adds the penalty to an objective's result; undefined when there is none. */
export function* klPenalty(
  batch: KlInputs,
  checked: CheckedBatch,
  options: KlParameters & AggregationParameters,
  score: Score,
): Sliced<Extension | undefined> {
  const coefficient = finiteNumber('klCoef', options.klCoef ?? 0, { min: 0 });
  const estimator = estimatorOf(options, score);
  const against = oneOf('klReference', options.klReference ?? 'ref', ['ref', 'old']);
  const weights = aggregationWeights(options, checked.whole.sequences);
  const given = yield* ifGiven(batch.refLogProbs, (ref) =>
    constantLogProbs('refLogProbs', ref, checked.tokens, checked.mask),
  );
  if (coefficient === 0) return undefined;
  if (against === 'ref' && !given)
    throw badArgument('ERR_DTYPE', 'refLogProbs', 'Float32Array or Float64Array with klCoef > 0', 'undefined');
  const reference = against === 'ref' ? given : checked.oldLogProbs;
  return {
    *extend(level, result) {
      const channel = yield* klTask(level, estimator, reference);
      const { scores, tokenCounts } = channel;
      const ofAll = yield* wholeWeights(level, checked.whole, weights);
      const { loss, gradScores } = yield* weightedSumTask(scores, undefined, tokenCounts, ofAll, coefficient);
      const terms = [...result.terms, { of: 'logProbs' as const, channel, gradScores }];
      return { ...result, losses: [...result.losses, loss], terms, kl: channel };
    },
    *tokenTerm(tokens, tokenCounts) {
      const ofAll = yield* wholeWeights(tokens, checked.whole, weights);
      const gradScores = yield* weightedSumGradient(undefined, tokenCounts, ofAll, coefficient);
      const samplerLogProbs = estimator.klWeight === 'ratio' ? checked.oldLogProbs : undefined;
      const rules = tokenRules({ oldLogProbs: reference }, estimator)!; // whose ratio is a token's, as the policy's score
      return { ...rules, samplerLogProbs, gradScores };
    },
  };
}

/** The estimator of the options as a score, checked; on the ratio that the policy's score is on. */
function estimatorOf({ klEstimator, klWeight, klMax }: KlParameters, score: Score): KlScore {
  const weighted = oneOf('klWeight', klWeight ?? 'none', ['none', 'ratio']) === 'ratio';
  return {
    kind: oneOf('klEstimator', klEstimator ?? 'k3', KL_ESTIMATORS),
    klMax: finiteNumber('klMax', klMax ?? Infinity, { above: 0, unbounded: true }),
    ...(weighted && { klWeight: 'ratio', ratioLevel: ratioLevelOf(score) }),
  };
}
