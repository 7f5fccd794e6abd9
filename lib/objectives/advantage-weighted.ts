// The objective of the GRPO family on any score: -sum_i w_i * A_i * s_i, with its usual additions.

import { ADVANTAGES_OPTIONS, type AdvantagesOptions, advantageRule, estimateAdvantages } from '../advantages.js';
import { badArgument } from '../errors.js';
import { gather, scatter } from '../groups.js';
import type { TokenTerm } from '../kernels.js';
import { requireGroups } from '../levels/batch.js';
import { type Score, type ScoreInputs, scoreTask, tokenRules } from '../levels/scores.js';
import { type KnownTokens, type TokenLevel, tokenCountsTask } from '../levels/token-level.js';
import {
  AGGREGATION_PARAMETERS,
  type AggregationParameters,
  aggregationWeights,
  weightedSumGradient,
  weightedSumTask,
} from '../ops/advantage-objective.js';
import { namesOf } from '../options.js';
import { rejectTokenWeights, scoreParameters } from '../ratio-score.js';
import type { Pending, Task } from '../run/task.js';
import { mapped, type Sliced } from '../slices.js';
import { type FloatArray, finiteFloats, maskedFinite, objectArgument, typedArray } from '../validate.js';
import { ENTROPY_PARAMETERS, type EntropyParameters, entropyBonus } from './entropy-bonus.js';
import { KL_PARAMETERS, type KlInputs, type KlParameters, klPenalty } from './kl-penalty.js';
import type { CheckedBatch, Extension, Objective, ObjectiveResult } from './objective.js';
import { withParameters } from './objective.js';
import { ROLLOUT_PARAMETERS, type RolloutParameters, rolloutCorrection } from './rollout-correction.js';

/** Further fields in the batch of the advantage-weighted losses. */
export interface AdvantageInputs extends KlInputs {
  /** [N], or [T] for one per token: advantages, in place of the estimator's. Where N = T they are per sequence. */
  advantages?: FloatArray;
}

/** Parameters of {@link advantageWeighted}. */
export interface AdvantageParameters extends AggregationParameters, KlParameters, EntropyParameters, RolloutParameters {
  /** How rewards become advantages, unless the batch has them. Default: (R - mean) / (std + 1e-4), sample std. */
  advantage?: AdvantagesOptions;
}

/** Names of {@link AdvantageParameters}. */
export const ADVANTAGE_PARAMETERS = namesOf<AdvantageParameters>({
  ...AGGREGATION_PARAMETERS,
  ...KL_PARAMETERS,
  ...ENTROPY_PARAMETERS,
  ...ROLLOUT_PARAMETERS,
  advantage: ADVANTAGES_OPTIONS,
});

/** Checked advantages: [T] if per token, else [N]. */
interface AdvantageSource {
  perToken: boolean;
  task(tokens: KnownTokens): Task<Float64Array>;
}

/**
 * The GRPO family's objective, for {@link defineLoss}: `loss = -sum_i w_i A_i s_i` on any score, with the weights of
 * {@link Aggregation}, plus a KL penalty, minus an entropy bonus, under rollout correction, as the options say. Advantages are
 * the batch's own, per sequence [N] or per token [T], else those of {@link advantages}.
 *
 * @example
 * ```ts
 * import { advantageWeighted, defineLoss } from 'rlvr-kernels';
 *
 * // GRPO on plain ratios, every token weighted alike, without a clip
 * const unclipped = defineLoss({
 *   score: { kind: 'ratio' },
 *   objective: advantageWeighted,
 *   defaults: { aggregation: 'token-mean', advantage: { estimator: 'rloo' } },
 * });
 * const batch = {
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9), // an answer of one token, and one of two
 *   oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // when they were sampled
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 *   cuGroups: Int32Array.of(0, 2), // both answer the same question
 *   rewards: Float32Array.of(1, 0),
 * };
 * const { loss, advantages } = await unclipped.run(batch);
 * console.log(loss, advantages); // => 0.130 Float64Array(2) [ 1, -1 ]
 * ```
 */
export const advantageWeighted: Objective<AdvantageParameters, AdvantageInputs> = withParameters(
  ADVANTAGE_PARAMETERS,
  function* (score, batch, checked, options) {
    const weights = aggregationWeights(options, checked.sequences);
    const source = yield* advantageSource(batch, checked, options);
    const correction = rolloutCorrection(checked, options);
    if (correction) requireNoOwn(score);
    if (source.perToken) requireTokenTerms(score, 'advantages');
    if (correction?.perToken) requireTokenTerms(score, 'rolloutCorrection');
    const bonus = entropyBonus(checked, options);
    const extensions = [yield* klPenalty(batch, checked, options, score), bonus].filter(
      (extension) => extension !== undefined,
    );
    const weigh = function* (tokens: KnownTokens & Partial<Pick<TokenLevel, 'logProbs'>>) {
      const advantages = yield* source.task(tokens);
      const importance = correction && (yield* correction.task(tokens));
      const combined = yield* combine(source.perToken, advantages, correction?.perToken === true, importance);
      return { advantages, ...combined };
    };
    return {
      needsEntropy: bonus !== undefined,
      *tokenTerms(tokens) {
        if (bonus || (correction && !checked.oldLogProbs)) return undefined; // importance against the log-probs themselves
        const { inputs, factors } = yield* weigh(tokens);
        const rules = tokenRules(checked, score, inputs);
        if (!rules) return undefined;
        const { cuSeqlens, sequences } = checked;
        const tokenCounts = yield* tokenCountsTask(tokens);
        const gradScores = yield* weightedSumGradient(factors, tokenCounts, weights, -1);
        const penalty = yield* penaltyOf(extensions, tokenCounts);
        return { cuSeqlens, sequences, tokenCounts, policy: { ...rules, gradScores }, penalty };
      },
      *evaluate(level) {
        const { advantages, inputs, factors } = yield* weigh(level);
        const channel = yield* scoreTask(level, score, inputs);
        const { loss, gradScores } = yield* weightedSumTask(channel.scores, factors, channel.tokenCounts, weights, -1);
        let result: ObjectiveResult = {
          losses: [loss],
          channel,
          advantages,
          terms: [{ of: 'logProbs', channel, gradScores }],
        };
        for (const extension of extensions) result = yield* extension.extend(level, result);
        return result;
      },
    };
  },
);

/** The batch's own advantages, else those of the estimator. */
function* advantageSource(
  { advantages }: AdvantageInputs,
  checked: CheckedBatch,
  { advantage }: AdvantageParameters,
): Sliced<AdvantageSource> {
  const rule = advantageRule(objectArgument('advantage', advantage ?? {}));
  if (advantages !== undefined) return yield* givenAdvantages(advantages, checked);
  const { rewards, cuGroups, groupOrder } = requireGroups(checked);
  return {
    perToken: false,
    *task(tokens) {
      const counts = rule.needsTokenCounts ? yield* gather(yield* tokenCountsTask(tokens), groupOrder) : undefined;
      const ordered = yield* estimateAdvantages(rule, yield* gather(rewards, groupOrder), counts, cuGroups);
      return yield* scatter(ordered, groupOrder);
    },
  };
}

function* givenAdvantages(advantages: FloatArray, { sequences, tokens, mask }: CheckedBatch): Sliced<AdvantageSource> {
  const { length } = typedArray('advantages', advantages, ['Float32Array', 'Float64Array']);
  const perToken = length !== sequences && length === tokens;
  const values = perToken
    ? yield* selected(yield* maskedFinite('advantages', advantages, tokens, mask), mask)
    : yield* finiteFloats('advantages', advantages, sequences, `N, one per sequence (or T = ${tokens}, one per token)`);
  return {
    perToken,
    // biome-ignore lint/correctness/useYield: a task without a kernel
    *task() {
      return values;
    },
  };
}

/** 0 where masked, whatever stands there. */
function* selected(values: Float64Array, mask: Uint8Array | undefined): Sliced<Float64Array> {
  return mask ? yield* mapped(values, (value, t) => (mask[t] === 0 ? 0 : value)) : values;
}

function requireTokenTerms(score: Score, argument: string): void {
  if (score === 'logLikelihood' || score.kind === 'logLikelihood') return;
  rejectTokenWeights(scoreParameters(score), argument);
}

/** VESPO's score has the rollout log-probs in its ratio already. */
function requireNoOwn(score: Score): void {
  if (score === 'logLikelihood' || score.kind !== 'gammaWeight') return;
  throw badArgument('ERR_RANGE', 'rolloutCorrection', 'none with gammaWeight, whose ratio is to the rollouts', 'one');
}

/** What multiplies a token's term, and what a sequence's score: advantages, and importance weights if there are any. */
function* combine(
  advantagesPerToken: boolean,
  advantages: Float64Array,
  importancePerToken: boolean,
  importance: Float64Array | undefined,
): Sliced<{ inputs: ScoreInputs; factors: Float64Array | undefined }> {
  if (importance && advantagesPerToken !== importancePerToken) {
    if (advantagesPerToken) return { inputs: { tokenWeights: advantages }, factors: importance };
    return { inputs: { sides: advantages, tokenWeights: importance }, factors: advantages };
  }
  const product = importance ? yield* mapped(advantages, (advantage, i) => advantage * importance[i]) : advantages;
  if (advantagesPerToken) return { inputs: { tokenWeights: product }, factors: undefined };
  return { inputs: { sides: advantages }, factors: product };
}

/** The KL penalty as a term, if there is one. */
function* penaltyOf(
  extensions: readonly Extension[],
  tokenCounts: Float64Array,
): Task<TokenTerm<Pending<Float64Array>> | undefined> {
  const extension = extensions.find(({ tokenTerm }) => tokenTerm !== undefined);
  return extension?.tokenTerm && (yield* extension.tokenTerm(tokenCounts));
}
