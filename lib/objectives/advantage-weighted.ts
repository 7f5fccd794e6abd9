// The objective of the GRPO family on any score: -sum_i w_i * A_i * s_i.
import { type AdvantagesOptions, advantageRule, estimateAdvantages } from '../advantages.js';
import { scoreTask, tokenCountsTask } from '../losses/forward.js';
import type { Objective } from '../losses/loss.js';
import { type AggregationParameters, aggregationWeights, weightedSumTask } from '../ops/advantage-objective.js';
import { type FloatArray, finiteFloats, objectArgument, optional } from '../validate.js';

/** Further input of the advantage-weighted losses, in their batch. */
export interface AdvantageInputs {
  /** [N] advantages, in place of the estimator's. */
  advantages?: FloatArray;
}

export interface AdvantageParameters extends AggregationParameters {
  /** How rewards become advantages, unless the batch has them. Default: (R - mean) / (std + 1e-4), sample std. */
  advantage?: AdvantagesOptions;
}

export const advantageWeighted: Objective<AdvantageParameters, AdvantageInputs> = (score, batch, checked, options) => {
  const weights = aggregationWeights(options, checked.sequences);
  const fixed = optional(batch.advantages, (a) =>
    finiteFloats('advantages', a, checked.sequences, 'N, one per sequence'),
  );
  const rule = advantageRule(objectArgument('advantage', options.advantage ?? {}));
  return function* (level) {
    const counts = rule.needsTokenCounts && !fixed ? yield* tokenCountsTask(level) : undefined;
    const weight = fixed ?? estimateAdvantages(rule, checked.rewards, counts, checked.cuGroups);
    const channel = yield* scoreTask(level, score, weight);
    const { loss, gradScores } = yield* weightedSumTask(channel.scores, weight, channel.tokenCounts, weights, -1);
    return { losses: [loss], channel, advantages: weight, terms: [{ channel, gradScores }] };
  };
};
