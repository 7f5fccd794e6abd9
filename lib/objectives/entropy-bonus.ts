// A bonus on the entropy of the policy (spec section 4): its mean over each sequence as one more score, with the
// gradient through the logits.

import { badArgument } from '../errors.js';
import { meanTask } from '../levels/scores.js';
import { type AggregationParameters, aggregationWeights, weightedSumTask } from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import { finiteNumber } from '../validate.js';
import type { CheckedBatch, Extension } from './objective.js';

/** Parameters of the entropy bonus: the loss gets `-entropyCoef * sum_i w_i * mean_t H_t`, with the weights of the policy term. */
export interface EntropyParameters {
  /** Weight of the entropy bonus, >= 0; from logits only. Default 0. */
  entropyCoef?: number;
}

/** Names of {@link EntropyParameters}. */
export const ENTROPY_PARAMETERS = namesOf<EntropyParameters>({ entropyCoef: true });

/** Takes the bonus off an objective's loss; undefined when there is none. */
export function entropyBonus(
  checked: CheckedBatch,
  options: EntropyParameters & AggregationParameters,
): Extension | undefined {
  const coefficient = finiteNumber('entropyCoef', options.entropyCoef ?? 0, { min: 0 });
  const weights = aggregationWeights(options, checked.sequences);
  if (coefficient === 0) return undefined;
  if (checked.logProbsSource)
    throw badArgument('ERR_RANGE', 'entropyCoef', '0 for a batch of log-probs', String(coefficient));
  return {
    *extend(level, result) {
      const channel = yield* meanTask(level, level.entropy!);
      const { scores, tokenCounts } = channel;
      const { loss, gradScores } = yield* weightedSumTask(scores, undefined, tokenCounts, weights, -coefficient);
      const terms = [...result.terms, { of: 'entropy' as const, channel, gradScores }];
      return { ...result, losses: [...result.losses, loss], terms };
    },
  };
}
