// An objective that the user writes in TypeScript, on scores.

import { badArgument, describe, RlvrError } from '../errors.js';
import { requireGroups } from '../levels/batch.js';
import { scoreTask } from '../levels/scores.js';
import { mapped } from '../slices.js';
import { finiteFloats, ifGiven, objectArgument } from '../validate.js';
import type { LossOptions, Objective } from './objective.js';
import { allSigns } from './sides.js';
import { ownResult, readWholeScores } from './whole-batch.js';

/** What an objective function sees of the batch, with `parallel.data` of the batch of all ranks. Do not modify its arrays. */
export interface ScoredBatch {
  /** [N] */
  scores: Float64Array;
  /** [N] verified rewards. */
  rewards: Float64Array;
  /** [N] +1 where the reward is above `positiveThreshold`, else -1. */
  sides: Float64Array;
  /** [N] tokens that count in each sequence. */
  tokenCounts: Float64Array;
  /** [G + 1], group g is sequences `cuGroups[g] ... cuGroups[g + 1]` (of `groupOrder`, where there is one). */
  cuGroups: Int32Array;
  /** [N] */
  groupOrder: Int32Array | undefined;
}

/** The value of an objective function, and its gradient. */
export interface ObjectiveValue {
  /** Its value. */
  loss: number;
  /** [N] dloss/dscores. */
  gradScores: Float64Array;
  /** [G] the loss of each group, for the result of the loss. */
  groupLosses?: Float64Array | undefined;
}

/**
 * An objective for {@link defineLoss} from a function of the scores: its value and its gradient by each score. `P` are the
 * loss's own parameters, as the caller gave them (or the loss's defaults). The function gets float64 arrays on the host, whatever
 * the backend: N numbers, read once per call.
 *
 * @example
 * ```ts
 * import { defineLoss, scoreObjective } from 'rlvr-kernels';
 *
 * // The rewards themselves as weights, over a baseline: REINFORCE on mean log-probs
 * const reinforce = defineLoss({
 *   score: 'logLikelihood',
 *   objective: scoreObjective<{ baseline: number }>(({ scores, rewards }, { baseline = 0 }) => {
 *     const gradScores = rewards.map((reward) => -(reward - baseline) / rewards.length);
 *     return { loss: scores.reduce((sum, s, i) => sum + s * gradScores[i], 0), gradScores };
 *   }),
 * });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs } = await reinforce.run(batch, { baseline: 0.5 });
 * console.log(loss, gradLogProbs); // => -0.15 Float64Array(3) [ -0.25, 0.125, 0.125 ]
 * ```
 *
 * @throws RlvrError (when the loss runs) `ERR_NONFINITE`, `ERR_SHAPE` or `ERR_DTYPE` for what the function returns.
 */
export function scoreObjective<P extends object = object>(
  evaluate: (batch: ScoredBatch, options: Partial<P & LossOptions>) => ObjectiveValue,
): Objective<P> {
  if (typeof evaluate !== 'function') {
    throw new RlvrError('ERR_DTYPE', `evaluate: expected a function of scores, got ${typeof evaluate}`);
  }
  return function* (score, _batch, checked, options) {
    const { whole } = checked;
    const { rewards, cuGroups, groupOrder } = requireGroups(whole);
    const { sides, ownSides } = yield* allSigns(rewards, checked);
    return {
      *evaluate(level) {
        const channel = yield* scoreTask(level, score, { sides: ownSides });
        const { scores, tokenCounts } = yield* readWholeScores(level, whole, channel);
        const batch = { scores, rewards, sides, tokenCounts, cuGroups, groupOrder };
        const value = objectArgument('the objective', evaluate(batch, options));
        const loss = Float64Array.of(finiteLoss(value.loss));
        // A copy: the function may keep its array and change it while a device still reads it.
        const given = yield* finiteFloats('gradScores', value.gradScores, whole.sequences, 'N, one per score');
        const ofAll = yield* mapped(given, (slope) => slope);
        const { losses, gradScores } = yield* ownResult(whole, checked.sequences, { loss, gradScores: ofAll });
        const groupLosses = yield* ifGiven(value.groupLosses, function* (losses) {
          return (yield* finiteFloats('groupLosses', losses, cuGroups.length - 1, 'G, one per group')).slice();
        });
        return { losses, channel, groupLosses, terms: [{ of: 'logProbs', channel, gradScores }] };
      },
    };
  };
}

function finiteLoss(loss: unknown): number {
  if (typeof loss !== 'number') throw badArgument('ERR_DTYPE', 'loss of the objective', 'a number', describe(loss));
  if (Number.isFinite(loss)) return loss;
  throw badArgument('ERR_NONFINITE', 'loss of the objective', 'a finite number', String(loss));
}
