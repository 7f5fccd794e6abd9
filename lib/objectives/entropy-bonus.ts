// A bonus on the entropy of the policy (spec section 4): its mean over each sequence as one more score, with the
// gradient through the logits.

import { badArgument } from '../errors.js';
import { meanTask } from '../levels/scores.js';
import { type AggregationParameters, aggregationWeights, weightedSumTask } from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import { finiteNumber, oneOf } from '../validate.js';
import type { CheckedBatch, Extension } from './objective.js';
import { wholeWeights } from './whole-batch.js';

/** Parameters of the entropy bonus: the loss gets `-entropyCoef * sum_i w_i * mean_t H_t`, by default with the weights of the policy term. */
export interface EntropyParameters {
  /** Weight of the entropy bonus, >= 0; from logits only. Default 0. */
  entropyCoef?: number | undefined;
  /** The bonus is weighted as the policy term is (the default), or is the mean over all tokens, as in TRL. */
  entropyAggregation?: 'policy' | 'token-mean' | undefined;
  /**
   * With `entropyAggregation: 'token-mean'`: replaces the number of tokens, > 0, as `normalizer` does for the policy term. Required
   * with `normalizer`, unless both are means over tokens: then the default is `normalizer`.
   */
  entropyNormalizer?: number | undefined;
}

/** Names of {@link EntropyParameters}. */
export const ENTROPY_PARAMETERS = namesOf<EntropyParameters>({
  entropyCoef: true,
  entropyAggregation: true,
  entropyNormalizer: true,
});

/** Takes the bonus off an objective's loss; undefined when there is none. */
export function entropyBonus(
  checked: CheckedBatch,
  options: EntropyParameters & AggregationParameters,
): Extension | undefined {
  const coefficient = finiteNumber('entropyCoef', options.entropyCoef ?? 0, { min: 0 });
  const weights = aggregationWeights(aggregationOf(options), checked.whole.sequences);
  if (coefficient === 0) return undefined;
  if (checked.logProbsSource)
    throw badArgument('ERR_RANGE', 'entropyCoef', '0 for a batch of log-probs', String(coefficient));
  return {
    *extend(level, result) {
      const channel = yield* meanTask(level, level.entropy!);
      const { scores, tokenCounts } = channel;
      const ofAll = yield* wholeWeights(level, checked.whole, weights);
      const { loss, gradScores } = yield* weightedSumTask(scores, undefined, tokenCounts, ofAll, -coefficient);
      const terms = [...result.terms, { of: 'entropy' as const, channel, gradScores }];
      return { ...result, losses: [...result.losses, loss], terms };
    },
  };
}

/** The aggregation of the bonus. */
function aggregationOf(options: EntropyParameters & AggregationParameters): AggregationParameters {
  const { aggregation, normalizer, entropyNormalizer: own } = options;
  const words = ['policy', 'token-mean'] as const;
  const byTokens = oneOf('entropyAggregation', options.entropyAggregation ?? 'policy', words) === 'token-mean';
  if (own !== undefined) finiteNumber('entropyNormalizer', own, { above: 0 });
  if (!byTokens && own !== undefined)
    throw badArgument('ERR_RANGE', 'entropyNormalizer', "none but with entropyAggregation 'token-mean'", String(own));
  if (!byTokens) return options;
  if (own === undefined && normalizer !== undefined && aggregation !== 'token-mean') {
    const expected = "a number above 0 with normalizer and entropyAggregation 'token-mean'";
    throw badArgument('ERR_RANGE', 'entropyNormalizer', expected, 'undefined');
  }
  const denominator = own ?? normalizer;
  return { aggregation: 'token-mean', ...(denominator !== undefined && { normalizer: denominator }) };
}
