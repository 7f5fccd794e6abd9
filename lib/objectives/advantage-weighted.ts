// The objective of the GRPO family on any score: -sum_i w_i * A_i * s_i, with its usual additions.

import { badArgument, describe } from '../errors.js';
import { spreadOverTokens } from '../groups.js';
import type { TokenTerm } from '../kernels.js';
import { withMask } from '../levels/batch.js';
import { type Score, type ScoreInputs, scoreTask, tokenRules, tokenTermsTask } from '../levels/scores.js';
import { type KnownTokens, type TokenLevel, type TokensSoFar, tokenCountsTask } from '../levels/token-level.js';
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
import { mapped, type Sliced, total } from '../slices.js';
import { advantageSource, SOURCE_PARAMETERS, type SourceInputs, type SourceParameters } from './advantage-source.js';
import {
  COVARIANCE_PARAMETERS,
  type CovarianceParameters,
  clipCovWeights,
  klCovPenalty,
  type TermWeights,
} from './covariance.js';
import { ENTROPY_PARAMETERS, type EntropyParameters, entropyBonus } from './entropy-bonus.js';
import { KL_PARAMETERS, type KlInputs, type KlParameters, klPenalty } from './kl-penalty.js';
import type { CheckedBatch, Extension, Objective, ObjectiveResult } from './objective.js';
import { withParameters } from './objective.js';
import {
  entropyMask,
  givenWeights,
  MASK_PARAMETERS,
  type MaskParameters,
  offPolicyMask,
  type PolicyFactor,
  type TokenWeightInputs,
} from './policy-factors.js';
import {
  ROLLOUT_PARAMETERS,
  type RolloutInputs,
  type RolloutParameters,
  rejection,
  rolloutCorrection,
} from './rollout-correction.js';
import { wholeWeights } from './whole-batch.js';

/** Further fields in the batch of the advantage-weighted losses. */
export interface AdvantageInputs extends SourceInputs, KlInputs, TokenWeightInputs, RolloutInputs {}

/** Parameters of {@link advantageWeighted}. */
export interface AdvantageParameters
  extends AggregationParameters,
    SourceParameters,
    KlParameters,
    EntropyParameters,
    RolloutParameters,
    MaskParameters,
    CovarianceParameters {
  /** Also return `tokenLosses` [T], the policy term of each token before any aggregation. Default false. */
  perToken?: boolean | undefined;
}

/** Names of {@link AdvantageParameters}. */
export const ADVANTAGE_PARAMETERS = namesOf<AdvantageParameters>({
  ...AGGREGATION_PARAMETERS,
  ...SOURCE_PARAMETERS,
  ...KL_PARAMETERS,
  ...ENTROPY_PARAMETERS,
  ...ROLLOUT_PARAMETERS,
  ...MASK_PARAMETERS,
  ...COVARIANCE_PARAMETERS,
  perToken: true,
});

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
  function* (score, batch, given, options) {
    const weights = aggregationWeights(options, given.whole.sequences);
    const mask = yield* rejection(given, options);
    const checked = mask ? withMask(given, mask) : given;
    const source = yield* advantageSource(batch, checked, options);
    if (options.rolloutCorrection !== undefined || batch.rolloutWeights !== undefined) requireNoOwn(score);
    if (source.perToken) requireTokenWeights(score, options.distillation ? 'distillation' : 'advantages');
    const factors = yield* policyFactors(score, batch, checked, options, source.perToken);
    const covariancePenalty = klCovPenalty(checked, options, source.perToken);
    const isLate = source.late || covariancePenalty !== undefined || factors.some(({ late }) => late);
    checkPerToken(options.perToken);
    const bonus = entropyBonus(checked, options);
    const extensions = [yield* klPenalty(batch, checked, options, score), bonus].filter(
      (extension) => extension !== undefined,
    );
    const weigh = function* (tokens: TokensSoFar) {
      const advantages = yield* source.task(tokens);
      const values = yield* valuesOf(factors, tokens, advantages);
      const own = source.perToken
        ? { ofTokens: advantages, ofSequences: undefined }
        : { ofTokens: undefined, ofSequences: advantages };
      const { ofTokens, ofSequences } = yield* combined(own, values);
      const sides = source.perToken ? undefined : advantages;
      return { advantages, inputs: { sides, tokenWeights: ofTokens }, factors: ofSequences, values };
    };
    return {
      mask,
      needsEntropy: bonus !== undefined || options.entropyQuantile !== undefined,
      hasEntropyTerm: bonus !== undefined,
      *tokenTerms(tokens) {
        if (bonus || isLate) return undefined;
        const { inputs, factors } = yield* weigh(tokens);
        const rules = tokenRules(checked, score, inputs);
        if (!rules) return undefined;
        const { cuSeqlens, sequences } = checked;
        const tokenCounts = yield* tokenCountsTask(tokens);
        const ofAll = yield* wholeWeights(tokens, checked.whole, weights);
        const gradScores = yield* weightedSumGradient(factors, tokenCounts, ofAll, -1);
        const penalty = yield* penaltyOf(extensions, tokens, tokenCounts);
        return { cuSeqlens, sequences, tokenCounts, policy: { ...rules, gradScores }, penalty };
      },
      *evaluate(level) {
        const { advantages, inputs, factors, values } = yield* weigh(level);
        const channel = yield* scoreTask(level, score, inputs);
        const ofAll = yield* wholeWeights(level, checked.whole, weights);
        const { loss, gradScores } = yield* weightedSumTask(channel.scores, factors, channel.tokenCounts, ofAll, -1);
        let result: ObjectiveResult = {
          losses: [loss],
          channel,
          advantages: yield* source.report(advantages, level),
          advantagesPerToken: source.reportsTokens,
          terms: [{ of: 'logProbs', channel, gradScores }],
          clipCovTokens: yield* takenOut(values),
          tokenLosses: options.perToken ? yield* tokenLossesTask(level, score, inputs, factors) : undefined,
        };
        if (covariancePenalty) {
          const others = yield* combined({ ofTokens: undefined, ofSequences: undefined }, values);
          result = yield* covariancePenalty(level, result, advantages, others);
        }
        for (const extension of extensions) result = yield* extension.extend(level, result);
        return result;
      },
    };
  },
);

/** Everything else that multiplies the policy term. */
function* policyFactors(
  score: Score,
  batch: AdvantageInputs,
  checked: CheckedBatch,
  options: AdvantageParameters,
  advantagesPerToken: boolean,
): Sliced<PolicyFactor[]> {
  const factors = [
    ...rolloutCorrection(checked, options, batch.rolloutWeights),
    yield* givenWeights('rolloutWeights', batch.rolloutWeights, checked),
    yield* givenWeights('tokenWeights', batch.tokenWeights, checked),
    offPolicyMask(checked, options, advantagesPerToken),
    entropyMask(checked, options),
    clipCovWeights(score, checked.whole, options, advantagesPerToken),
  ].filter((factor) => factor !== undefined);
  for (const { perToken, argument } of factors) if (perToken) requireTokenWeights(score, argument);
  return factors;
}

function requireTokenWeights(score: Score, argument: string): void {
  if (score === 'logLikelihood' || score.kind === 'logLikelihood') return;
  rejectTokenWeights(scoreParameters(score), argument);
}

/** VESPO's score has the rollout log-probs in its ratio already. */
function requireNoOwn(score: Score): void {
  if (score === 'logLikelihood' || score.kind !== 'gammaWeight') return;
  throw badArgument('ERR_RANGE', 'rolloutCorrection', 'none with gammaWeight, whose ratio is to the rollouts', 'one');
}

/** The constants of a factor: [T], else [N]. */
interface FactorValues {
  argument: string;
  perToken: boolean;
  values: Float64Array;
}

function* valuesOf(
  factors: readonly PolicyFactor[],
  tokens: TokensSoFar,
  advantages: Float64Array,
): Task<FactorValues[]> {
  const all: FactorValues[] = [];
  for (const { argument, perToken, task } of factors) {
    all.push({ argument, perToken, values: yield* task(tokens, advantages) });
  }
  return all;
}

/** How many tokens Clip-Cov leaves out, where there is one. */
function* takenOut(factors: readonly FactorValues[]): Sliced<number | undefined> {
  const values = factors.find(({ argument }) => argument === 'clipCov')?.values;
  return values && values.length - (yield* total(values));
}

/** What multiplies a token's term, and what a sequence's score: these weights, and all factors of the two. */
function* combined({ ofTokens, ofSequences }: TermWeights, factors: readonly FactorValues[]): Sliced<TermWeights> {
  const weights = { ofTokens, ofSequences };
  for (const { perToken, values } of factors) {
    const of = perToken ? 'ofTokens' : 'ofSequences';
    const before = weights[of];
    weights[of] = before ? yield* product(before, values) : values;
  }
  return weights;
}

function product(values: Float64Array, factors: Float64Array): Sliced<Float64Array> {
  return mapped(values, (value, i) => value * factors[i]);
}

function checkPerToken(perToken: unknown = false): void {
  if (typeof perToken === 'boolean') return;
  throw badArgument('ERR_RANGE', 'perToken', 'true or false', describe(perToken));
}

/** [T] the policy loss of each token, before any aggregation. */
function* tokenLossesTask(
  level: TokenLevel,
  score: Score,
  inputs: ScoreInputs,
  factors: Float64Array | undefined,
): Task<Float64Array> {
  const terms = yield* tokenTermsTask(level, score, inputs);
  const ofTokens = factors && (yield* spreadOverTokens(factors, level.checked.cuSeqlens, undefined));
  return yield* mapped(terms, (term, t) => 0 - term * (ofTokens?.[t] ?? 1));
}

/** The KL penalty as a term, if there is one. */
function* penaltyOf(
  extensions: readonly Extension[],
  tokens: KnownTokens,
  tokenCounts: Float64Array,
): Task<TokenTerm<Pending<Float64Array>> | undefined> {
  const extension = extensions.find(({ tokenTerm }) => tokenTerm !== undefined);
  return extension?.tokenTerm && (yield* extension.tokenTerm(tokens, tokenCounts));
}
