// ConSPO's objective on any score.

import { requireGroups } from '../levels/batch.js';
import { scoreTask } from '../levels/scores.js';
import {
  groupInfoNCETask,
  INFO_NCE_PARAMETERS,
  type InfoNCEParameters,
  infoNCEParameters,
} from '../ops/group-info-nce.js';
import type { Objective } from './objective.js';
import { withParameters } from './objective.js';
import { allSigns } from './sides.js';
import { ownResult, wholeScores } from './whole-batch.js';

/**
 * ConSPO's objective (arXiv 2605.12969, eq. 10), for {@link defineLoss}: each positive against all negatives of its own group, on any
 * score. {@link groupInfoNCE} has the formula and is the same on scores of your own.
 *
 * @example
 * ```ts
 * import { defineLoss, infoNCE } from 'rlvr-kernels';
 *
 * const onRatios = defineLoss({ score: { kind: 'sequenceRatio', epsilonLow: 1, epsilonHigh: 1 }, objective: infoNCE });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, scores } = await onRatios.run(batch, { tau: 0.5 });
 * console.log(loss, scores); // => 0.160 Float64Array(2) [ 1.350, 0.861 ]
 * ```
 */
export const infoNCE: Objective<InfoNCEParameters> = withParameters(
  INFO_NCE_PARAMETERS,
  function* (score, _batch, checked, options) {
    const { whole } = checked;
    const { rewards, ...groups } = requireGroups(whole);
    infoNCEParameters(options, groups.cuGroups.length - 1); // throws on bad options before any work
    const { ownSides } = yield* allSigns(rewards, checked);
    return {
      *evaluate(level) {
        const channel = yield* scoreTask(level, score, { sides: ownSides });
        const { scores, tokenCounts } = yield* wholeScores(level, whole, channel);
        const { groupLosses, ...nce } = yield* groupInfoNCETask(scores, rewards, tokenCounts, groups, options);
        const { losses, gradScores } = yield* ownResult(whole, checked.sequences, nce);
        return { losses, channel, groupLosses, terms: [{ of: 'logProbs', channel, gradScores }] };
      },
    };
  },
);
