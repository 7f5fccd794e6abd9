// What an objective is: given a checked batch, how scores become a loss and its gradient by each score.

import type { Groups } from '../groups.js';
import type { Batch, CheckedSequences, TokenLevelOptions } from '../levels/batch.js';
import type { Term } from '../levels/gradient.js';
import type { Score, ScoreChannel } from '../levels/scores.js';
import type { TokenLevel } from '../levels/token-level.js';
import type { BackendOptions, MaybePending, Task } from '../run/task.js';

/** Options of every loss. */
export interface LossOptions extends BackendOptions, TokenLevelOptions {
  /** A sequence is positive when its reward is above this. Default 0. */
  positiveThreshold?: number;
  /** Return `logProbs` [T]. Default false. */
  logProbs?: boolean;
  /** Return `entropy` [T] and log its mean; from logits only. Default false. */
  entropy?: boolean;
}

/** A batch whose groups are checked too. */
export interface CheckedBatch extends CheckedSequences, Groups {
  rewards: Float64Array; // [N]
  positiveThreshold: number;
}

/** What an objective gives back: its value, and its gradient by each score it used. */
export interface ObjectiveResult {
  losses: readonly MaybePending<Float64Array>[]; // [1] each; they add up
  channel: ScoreChannel; // the score that is reported
  terms: readonly Term[];
  groupLosses?: MaybePending<Float64Array> | undefined; // [G]
  advantages?: Float64Array; // [N] or [T]
  kl?: ScoreChannel; // of the penalty
}

/** Adds a term to an objective's result. */
export type Extension = (level: TokenLevel, result: ObjectiveResult) => Task<ObjectiveResult>;

/** An objective whose options have been checked. */
export interface PreparedObjective {
  /** Whether it looks at `level.entropy`. */
  needsEntropy?: boolean;
  evaluate(level: TokenLevel): Task<ObjectiveResult>;
}

/**
 * What a loss does with scores, for {@link defineLoss}: `infoNCE`, `advantageWeighted`, `discriminative`, `disco`, or one made
 * by `scoreObjective`. `P` are its parameters, `I` what it wants of the batch besides. (It checks both before any work;
 * then, given the token level, it scores and returns its value and gradients.)
 */
export type Objective<P, I = unknown> = (
  score: Score,
  batch: Batch & I,
  checked: CheckedBatch,
  options: Partial<P & LossOptions>,
) => PreparedObjective;
