// What a named loss is made of: a score, an objective, defaults. The rest (validation, token level, gradient, metrics,
// the async function and its sync twin) is the same for all, and here.
import {
  type AsyncOptions,
  type BackendOptions,
  optionsArgument,
  runAsync,
  runSync,
  type Task,
} from '../backend/task.js';
import type { Logits } from '../logits.js';
import { type FloatArray, finiteNumber } from '../validate.js';
import { type Batch, type CheckedSequences, checkGroups, checkSequences, type TokenLevelOptions } from './batch.js';
import {
  type BatchGradient,
  checkScore,
  gradientTarget,
  readResults,
  type Score,
  type ScoreChannel,
  type TokenLevel,
  tokenLevelTask,
  writeGradientTask,
} from './forward.js';
import { batchMetrics, type Metrics } from './metrics.js';

/** Options of every loss. */
export interface LossOptions extends BackendOptions, TokenLevelOptions {
  /** A sequence is positive when its reward is above this. Default 0. */
  positiveThreshold?: number;
  /** Return `logProbs` [T]. Default false. */
  logProbs?: boolean;
  /** Return `entropy` [T] and log its mean; from logits only. Default false. */
  entropy?: boolean;
}

/** Where a loss's gradient goes; `G` is what the call says. */
export interface GradientOptions<G> {
  /** `'new'` (default), `'in-place'` (overwrites the input: no second T * V array), `'none'`, or `{ out }`. */
  gradient?: G;
}

/** The gradient that a batch gets: of its logits, or of its log-probs. */
export type GradientOf<B> = [B] extends [{ logits: infer L extends Logits }]
  ? { gradLogits: L }
  : [B] extends [{ logProbs: FloatArray }]
    ? { gradLogProbs: FloatArray }
    : { gradLogits?: Logits; gradLogProbs?: FloatArray };

type GradientIn<B, G> = [G] extends ['none'] ? unknown : 'none' extends G ? Partial<GradientOf<B>> : GradientOf<B>;

/** What every loss returns, besides the gradient. */
export interface LossValue {
  loss: number;
  /** [N] sequence scores. */
  scores: Float64Array;
  /** [G] loss of each group, for objectives that have one. */
  groupLosses?: Float64Array;
  /** [N] advantages, for objectives that have them. */
  advantages?: Float64Array;
  /** [T] log-probs, on request. */
  logProbs?: Float64Array;
  /** [T] entropies, on request. */
  entropy?: Float64Array;
  metrics: Metrics;
}

/**
 * Result of a loss on a batch `B`, with `G` the `gradient` option; `Always` names values that the loss never leaves out.
 */
export type LossResult<B, G = 'new', Always extends keyof LossValue = never> = LossValue &
  Required<Pick<LossValue, Always>> &
  GradientIn<B, G>;

/** A batch whose groups are checked too. */
export interface CheckedBatch extends CheckedSequences {
  cuGroups: Int32Array; // [G + 1]
  rewards: Float64Array; // [N]
  positiveThreshold: number;
}

/** What an objective gives back, perhaps still on a device: its value, and its gradient by each score it used. */
export interface ObjectiveResult {
  losses: readonly Float64Array[]; // [1] each; they add up
  channel: ScoreChannel; // the score that is reported
  terms: { channel: ScoreChannel; gradScores: Float64Array }[];
  groupLosses?: Float64Array;
  advantages?: Float64Array;
  kl?: ScoreChannel; // of the penalty
}

/**
 * What a loss does with scores: checks its options (and further inputs `I` of the batch) before any work, then, given the
 * token level, scores it and returns its value and gradients.
 */
export type Objective<P, I = unknown> = (
  score: Score,
  batch: Batch & I,
  checked: CheckedBatch,
  options: Partial<P & LossOptions>,
) => (level: TokenLevel) => Task<ObjectiveResult>;

/** A loss as a recipe: its score, with the defaults of its parameters `P`, and its objective. */
export interface LossRecipe<P, I> {
  score: (options: Partial<P>) => Score;
  objective: Objective<P, I>;
}

type OptionsOf<B, P> = Partial<P> & LossOptions & GradientOptions<BatchGradient<B>>;

/** A loss: the async function and its blocking twin. */
export interface Loss<P, I> {
  run<B extends Batch & I, R>(batch: B, options?: OptionsOf<B, P> & AsyncOptions): Promise<R>;
  runSync<B extends Batch & I, R>(batch: B, options?: OptionsOf<B, P>): R;
}

/** The functions of a recipe. */
export function lossFrom<P extends object, I = unknown>(recipe: LossRecipe<P, I>): Loss<P, I> {
  function* task<B extends Batch & I>(batch: B, given?: OptionsOf<B, P>): Task<LossValue> {
    const options = optionsArgument(given) as Partial<P & LossOptions> & GradientOptions<BatchGradient<B>>;
    const sequences = checkSequences(batch, options);
    const positiveThreshold = finiteNumber('positiveThreshold', options.positiveThreshold ?? 0);
    const checked: CheckedBatch = { ...sequences, ...checkGroups(batch, sequences.sequences), positiveThreshold };
    const score = checkScore(recipe.score(options));
    const objective = recipe.objective(score, batch, checked, options);
    const target = gradientTarget(checked, options.gradient);
    const level = yield* tokenLevelTask(checked, options.entropy === true);
    const outcome = yield* objective(level);
    const gradient = yield* writeGradientTask(level, target, outcome.terms);
    const logProbs = options.logProbs === true ? level.logProbs : undefined;
    const values = [...outcomeArrays(outcome), logProbs, level.entropy, gradient.array];
    const nonFiniteTokens = yield* readResults(level, values);
    return { ...lossValue(level, checked, outcome, nonFiniteTokens, logProbs), ...gradient.finish() };
  }
  return {
    run: (batch, options) => runAsync(task(batch, options), options, batch?.logits) as Promise<never>,
    runSync: (batch, options) => runSync(task(batch, options), options, batch?.logits) as never,
  };
}

/** Everything of an outcome that the result of a loss is made of. */
function outcomeArrays({ losses, channel, groupLosses, kl }: ObjectiveResult) {
  const { scores, tokenCounts, clippedLow, clippedHigh } = channel;
  return [...losses, scores, tokenCounts, clippedLow, clippedHigh, groupLosses, kl?.scores];
}

function lossValue(
  level: TokenLevel,
  checked: CheckedBatch,
  outcome: ObjectiveResult,
  nonFiniteTokens: number,
  logProbs: Float64Array | undefined,
): LossValue {
  const { losses, channel, groupLosses, advantages } = outcome;
  return {
    loss: losses.reduce((sum, [loss]) => sum + loss, 0),
    scores: channel.scores,
    ...(groupLosses && { groupLosses }),
    ...(advantages && { advantages }),
    ...(logProbs && { logProbs }),
    ...(level.entropy && { entropy: level.entropy }),
    metrics: batchMetrics(level, checked, outcome, nonFiniteTokens),
  };
}
