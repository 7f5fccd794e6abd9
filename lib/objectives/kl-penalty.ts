// A penalty on KL to a reference policy (spec section 4): one more score, weighted like the policy's.

import type { Task } from '../backend/task.js';
import { badArgument } from '../errors.js';
import type { Batch } from '../losses/batch.js';
import { scoreTask, type TokenLevel } from '../losses/forward.js';
import type { CheckedBatch, ObjectiveResult } from '../losses/loss.js';
import { type AggregationParameters, aggregationWeights, weightedSumTask } from '../ops/advantage-objective.js';
import { type FloatArray, finiteNumber, maskedFloats, oneOf, optional } from '../validate.js';

/** Further input of losses with a KL penalty, in their batch. */
export interface KlInputs {
  /** [T] log-probs under the reference policy, constants; needed with `klCoef`. */
  refLogProbs?: FloatArray;
}

export interface KlParameters {
  /** Weight of the KL penalty to `refLogProbs`, >= 0. Default 0. */
  klCoef?: number;
  /** Its estimator, with d = ref - current: k1 -d, k2 d^2/2, k3 e^d - d - 1. Default `'k3'`. */
  klEstimator?: 'k1' | 'k2' | 'k3';
}

/** Adds the penalty to an objective's result; undefined when there is none. */
export function klPenalty(
  batch: Batch & KlInputs,
  checked: CheckedBatch,
  options: KlParameters & AggregationParameters,
): ((level: TokenLevel, result: ObjectiveResult) => Task<ObjectiveResult>) | undefined {
  const coefficient = finiteNumber('klCoef', options.klCoef ?? 0, { min: 0 });
  const kind = oneOf('klEstimator', options.klEstimator ?? 'k3', ['k1', 'k2', 'k3']);
  const reference = optional(batch.refLogProbs, (ref) =>
    maskedFloats('refLogProbs', ref, checked.tokens, checked.mask),
  );
  if (coefficient === 0) return undefined;
  if (!reference)
    throw badArgument('ERR_DTYPE', 'refLogProbs', 'Float32Array or Float64Array with klCoef > 0', 'undefined');
  return function* (level, result) {
    const channel = yield* scoreTask(level, { kind }, undefined, reference);
    const weights = aggregationWeights(options, level.tokenCounts);
    const penalty = yield* weightedSumTask(channel.scores, undefined, level.tokenCounts, weights, coefficient);
    return {
      ...result,
      loss: result.loss + penalty.loss,
      terms: [...result.terms, { channel, gradScores: penalty.gradScores }],
      kl: tokenMean(channel.scores, level.tokenCounts),
    };
  };
}

/** Mean over tokens from means over sequences. */
function tokenMean(sequenceMeans: Float64Array, tokenCounts: Float64Array): number {
  let total = 0;
  let tokens = 0;
  for (let i = 0; i < sequenceMeans.length; i++) {
    total += sequenceMeans[i] * tokenCounts[i];
    tokens += tokenCounts[i];
  }
  return tokens === 0 ? 0 : total / tokens;
}
