// GRPO as a discriminative objective (arXiv 2605.12969; spec section 4), for binary rewards:
// -(1/G) sum_g sqrt(p_g (1 - p_g)) * (mean positive score - mean negative score). It is linear in the scores, so the
// kernel is the advantage-weighted one, with these weights as advantages.

import { gather, scatter } from '../groups.js';
import { requireGroups } from '../levels/batch.js';
import { scoreTask } from '../levels/scores.js';
import { weightedSumTask } from '../ops/advantage-objective.js';
import { raggedSlices, type Sliced } from '../slices.js';
import { finiteNumber } from '../validate.js';
import type { Objective } from './objective.js';
import { withParameters } from './objective.js';
import { allSigns } from './sides.js';
import { ownPart } from './whole-batch.js';

/** Parameters of {@link discriminative}. */
export interface DiscriminativeParameters {
  /** What the sum over groups is divided by, > 0. Default G. */
  normalizer?: number | undefined;
}

/**
 * GRPO's discriminative form (arXiv 2605.12969), for {@link defineLoss}, for binary rewards: `loss = -(1/G) sum_g sqrt(p (1 - p)) *
 * (mean s+ - mean s-)` on any score, p the share of positives in group g. A group without both signs adds 0.
 *
 * @example
 * ```ts
 * import { defineLoss, discriminative } from 'rlvr-kernels';
 *
 * // The paper's linear ablation: GRPO's weights on ConSPO's scores
 * const linear = defineLoss({ score: 'logLikelihood', objective: discriminative });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, gradLogProbs } = await linear.run(batch);
 * console.log(loss, gradLogProbs); // => -0.3 Float64Array(3) [ -0.5, 0.25, 0.25 ]
 * ```
 */
export const discriminative: Objective<DiscriminativeParameters> = withParameters(
  { normalizer: true },
  function* (score, _batch, checked, options) {
    const { whole, sequences } = checked;
    const { rewards, cuGroups, groupOrder } = requireGroups(whole);
    const normalizer = finiteNumber('normalizer', options.normalizer ?? Math.max(cuGroups.length - 1, 1), { above: 0 });
    const { sides, ownSides } = yield* allSigns(rewards, checked);
    const ordered = yield* discriminativeWeights(yield* gather(sides, groupOrder), cuGroups);
    const advantages = ownPart(yield* scatter(ordered, groupOrder), whole.first, sequences);
    return {
      *evaluate(level) {
        const channel = yield* scoreTask(level, score, { sides: ownSides });
        const weights = { perToken: false, normalizer };
        const { loss, gradScores } = yield* weightedSumTask(
          channel.scores,
          advantages,
          channel.tokenCounts,
          weights,
          -1,
        );
        return { losses: [loss], channel, terms: [{ of: 'logProbs', channel, gradScores }] };
      },
    };
  },
);

/** sqrt(p (1 - p)) / N+ for a positive, -sqrt(p (1 - p)) / N- for a negative; 0 in one-signed groups. */
function* discriminativeWeights(sides: Float64Array, cuGroups: Int32Array): Sliced<Float64Array> {
  const positives = new Int32Array(cuGroups.length - 1);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    for (let i = begin; i < end; i++) positives[g] += sides[i] > 0 ? 1 : 0;
  });
  const weights = new Float64Array(sides.length);
  yield* raggedSlices(cuGroups, (g, begin, end) => {
    const sequences = cuGroups[g + 1] - cuGroups[g];
    const negatives = sequences - positives[g];
    if (positives[g] === 0 || negatives === 0) return;
    const spread = Math.sqrt(positives[g] * negatives) / sequences;
    for (let i = begin; i < end; i++) weights[i] = sides[i] > 0 ? spread / positives[g] : -spread / negatives;
  });
  return weights;
}
