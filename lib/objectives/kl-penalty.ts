// A penalty on KL to a reference policy (spec section 4): one more score, weighted like the policy's.

import { badArgument } from '../errors.js';
import { klTask, tokenRules } from '../levels/scores.js';
import {
  type AggregationParameters,
  aggregationWeights,
  weightedSumGradient,
  weightedSumTask,
} from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import type { Sliced } from '../slices.js';
import { type FloatArray, finiteNumber, ifGiven, maskedFloats, oneOf } from '../validate.js';
import type { CheckedBatch, Extension } from './objective.js';

/** Further field in the batch of losses with a KL penalty. */
export interface KlInputs {
  /** [T] log-probs under the reference policy, constants; needed with `klCoef`. */
  refLogProbs?: FloatArray;
}

/** Parameters of the KL penalty: the loss gets `klCoef * sum_i w_i * mean_t k_t`, with the weights of the policy term. */
export interface KlParameters {
  /** Weight of the KL penalty to `refLogProbs`, >= 0. Default 0. */
  klCoef?: number;
  /** Its estimator, with d = ref - current: k1 -d, k2 d^2/2, k3 e^d - d - 1. Default `'k3'`. */
  klEstimator?: 'k1' | 'k2' | 'k3';
}

/** Names of {@link KlParameters}. */
export const KL_PARAMETERS = namesOf<KlParameters>({ klCoef: true, klEstimator: true });

/** Adds the penalty to an objective's result; undefined when there is none. */
export function* klPenalty(
  batch: KlInputs,
  checked: CheckedBatch,
  options: KlParameters & AggregationParameters,
): Sliced<Extension | undefined> {
  const coefficient = finiteNumber('klCoef', options.klCoef ?? 0, { min: 0 });
  const kind = oneOf('klEstimator', options.klEstimator ?? 'k3', ['k1', 'k2', 'k3']);
  const weights = aggregationWeights(options, checked.sequences);
  const reference = yield* ifGiven(batch.refLogProbs, (ref) =>
    maskedFloats('refLogProbs', ref, checked.tokens, checked.mask),
  );
  if (coefficient === 0) return undefined;
  if (!reference)
    throw badArgument('ERR_DTYPE', 'refLogProbs', 'Float32Array or Float64Array with klCoef > 0', 'undefined');
  return {
    *extend(level, result) {
      const channel = yield* klTask(level, kind, reference);
      const { scores, tokenCounts } = channel;
      const { loss, gradScores } = yield* weightedSumTask(scores, undefined, tokenCounts, weights, coefficient);
      const terms = [...result.terms, { of: 'logProbs' as const, channel, gradScores }];
      return { ...result, losses: [...result.losses, loss], terms, kl: channel };
    },
    *tokenTerm(tokenCounts) {
      const gradScores = yield* weightedSumGradient(undefined, tokenCounts, weights, coefficient);
      return { ...tokenRules({ oldLogProbs: reference }, { kind })!, gradScores };
    },
  };
}
