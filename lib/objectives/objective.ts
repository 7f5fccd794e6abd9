// What an objective is: given a checked batch, how scores become a loss and its gradient by each score.

import type { TokenTerm, TokenTerms } from '../kernels.js';
import type {
  Batch,
  CheckedGroups,
  CheckedSequences,
  GroupFields,
  RewardedById,
  SequenceBatch,
  TokenLevelOptions,
} from '../levels/batch.js';
import { TOKEN_LEVEL_OPTIONS } from '../levels/batch.js';
import type { Term } from '../levels/gradient.js';
import type { Score, ScoreChannel } from '../levels/scores.js';
import type { KnownTokens, TokenLevel } from '../levels/token-level.js';
import type { Numbers } from '../number-lists.js';
import type { OptionNames } from '../options.js';
import { namesOf } from '../options.js';
import { PARALLEL_OPTION, type ParallelOptions } from '../run/ranks.js';
import type { BackendOptions, MaybePending, Pending, Task } from '../run/task.js';
import { SYNC_OPTIONS } from '../run/task.js';
import type { Sliced } from '../slices.js';
import type { FloatArray } from '../validate.js';
import type { Whole } from './whole-batch.js';

/** Options of every loss. */
export interface LossOptions extends BackendOptions, TokenLevelOptions, ParallelOptions {
  /** A sequence is positive when its reward is above this. Default 0. */
  positiveThreshold?: number | undefined;
  /** Return `logProbs` [T]. Default false. */
  logProbs?: boolean | undefined;
  /** Return `entropy` [T] and log its mean; from logits only. Default false. */
  entropy?: boolean | undefined;
  /**
   * Throws unless the log-probs are, but for rounding, the batch's `oldLogProbs`, as they should be on the first step: when the token
   * mean of `r = exp(logProbs - oldLogProbs)` is further than 0.05 from 1, or that of `logProbs - oldLogProbs` from 0. Default false.
   */
  expectOnPolicy?: boolean | undefined;
}

/** Names of {@link LossOptions}. */
export const LOSS_OPTIONS = namesOf<LossOptions>({
  ...SYNC_OPTIONS,
  ...TOKEN_LEVEL_OPTIONS,
  ...PARALLEL_OPTION,
  positiveThreshold: true,
  logProbs: true,
  entropy: true,
  expectOnPolicy: true,
});

/** A batch whose groups are checked too. */
export interface CheckedBatch extends CheckedSequences, CheckedGroups {
  positiveThreshold: number;
  whole: Whole; // of all ranks
}

/** Rewards and groups that need not be there. @inline */
type Unrewarded = GroupFields;

/**
 * Batch of a loss with further inputs `I`. Where those may be advantages, or a teacher's log-probs, a batch that has them needs neither
 * rewards nor groups: its result then lacks the metrics of those.
 */
export type LossBatch<I> =
  | (Batch & I)
  | (SequenceBatch & RewardedById & I)
  | ('advantages' extends keyof I
      ? SequenceBatch &
          Unrewarded &
          I & {
            /** [N] or [T], required without rewards or groups. */
            advantages: Numbers;
          }
      : never)
  | ('teacherLogProbs' extends keyof I
      ? SequenceBatch &
          Unrewarded &
          I & {
            /** [T], with `distillation`: then rewards and groups need not be there either. */
            teacherLogProbs: FloatArray;
          }
      : never);

/** What an objective gives back: its value, and its gradient by each score it used. */
export interface ObjectiveResult {
  losses: readonly MaybePending<Float64Array>[]; // [1] each; they add up
  channel: ScoreChannel; // the score that is reported
  terms: readonly Term[];
  groupLosses?: MaybePending<Float64Array> | undefined; // [G]
  advantages?: Float64Array; // [N] or [T]
  advantagesPerToken?: boolean; // whether they are [T]
  tokenLosses?: Float64Array | undefined; // [T]
  kl?: ScoreChannel; // of the penalty
  clipCovTokens?: number | undefined; // that Clip-Cov takes out
}

/** A further term of an objective. */
export interface Extension {
  /** Adds it to the result. */
  extend(level: TokenLevel, result: ObjectiveResult): Task<ObjectiveResult>;
  /** The term itself, where each token's part depends on its own log-prob only. [N] tokens in each sequence. */
  tokenTerm?(tokens: KnownTokens, tokenCounts: Float64Array): Task<TokenTerm<Pending<Float64Array>>>;
}

/** An objective whose options have been checked. */
export interface PreparedObjective {
  /** [T] the mask without tokens that it drops from the batch. */
  mask?: Uint8Array | undefined;
  /** Whether it looks at `level.entropy`. */
  needsEntropy?: boolean;
  /** Whether a term of it is one of the entropies. */
  hasEntropyTerm?: boolean;
  /**
   * What the gradient of each log-prob follows from without any other, before the log-probs are known; undefined where it does not.
   * Of rows that are all finite.
   */
  tokenTerms?(tokens: KnownTokens): Task<TokenTerms<Pending<Float64Array>> | undefined>;
  evaluate(level: TokenLevel): Task<ObjectiveResult>;
}

/**
 * What a loss does with scores, for {@link defineLoss}: `infoNCE`, `advantageWeighted`, `discriminative`, `disco`, or one made
 * by `scoreObjective`. `P` are its parameters, `I` the further inputs that it takes from the batch. (It checks both before any
 * work; then, given the token level, it scores the sequences and returns its value and gradients.)
 */
export type Objective<P, I = unknown> = (
  score: Score,
  batch: LossBatch<I>,
  checked: CheckedBatch,
  options: Partial<P & LossOptions>,
) => Sliced<PreparedObjective>;

const parameters = new WeakMap<object, OptionNames>();

/** Records which parameters an objective has, and returns the objective. */
export function withParameters<O extends object>(names: OptionNames, objective: O): O {
  parameters.set(objective, names);
  return objective;
}

/** Names of an objective's parameters, if they are known. */
export function parametersOf(objective: object): OptionNames | undefined {
  return parameters.get(objective);
}
