// The shared spine of every loss: tokens -> sequence scores, and back from gradients of scores to logits or log-probs.
import type { Task } from '../backend/task.js';
import { badArgument, describe } from '../errors.js';
import { type GradientOption, gradientView, type Logits, type LogitsView } from '../logits.js';
import * as ratio from '../ops/ratio-scores.js';
import * as sequence from '../ops/sequence-log-probs.js';
import * as token from '../ops/token-log-probs.js';
import { arrayOf, type FloatArray, objectArgument } from '../validate.js';
import { type CheckedSequences, givenLogProbs } from './batch.js';

/** How a sequence is scored: its mean log-prob, or a score on importance ratios. */
export type Score = 'logLikelihood' | { kind: 'logLikelihood' } | ratio.RatioScore;

/** A score of every sequence, and its derivative by every log-prob. */
export interface ScoreChannel {
  scores: Float64Array; // [N]
  scoreGrads: Float64Array; // [T]
  clippedLow?: Int32Array; // [N]
  clippedHigh?: Int32Array; // [N]
}

/** The token level of a batch, done. */
export interface TokenLevel {
  checked: CheckedSequences;
  logProbs: Float64Array; // [T]
  logSumExp: Float64Array | undefined; // [T], from logits
  entropy: Float64Array | undefined; // [T], on request
  mask: Uint8Array | undefined; // [T], without skipped tokens
  nonFiniteTokens: number;
  tokenCounts: Float64Array; // [N]
}

export function* tokenLevelTask(checked: CheckedSequences, entropy: boolean): Task<TokenLevel> {
  const tokens: token.TokenLogProbs = checked.rows
    ? yield* token.forwardTask(checked.rows, entropy, checked.onNonFinite)
    : { ...givenLogProbs(checked), logSumExp: new Float64Array(0) };
  const { logProbs, mask, nonFiniteTokens } = tokens;
  return {
    checked,
    logProbs,
    logSumExp: checked.rows && tokens.logSumExp,
    entropy: tokens.entropy,
    mask,
    nonFiniteTokens,
    tokenCounts: countTokens(checked.cuSeqlens, mask),
  };
}

function countTokens(cuSeqlens: Int32Array, mask: Uint8Array | undefined): Float64Array {
  const counts = new Float64Array(cuSeqlens.length - 1);
  for (let i = 0; i < counts.length; i++) {
    if (!mask) counts[i] = cuSeqlens[i + 1] - cuSeqlens[i];
    else for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) counts[i] += mask[t] === 0 ? 0 : 1;
  }
  return counts;
}

/** Scores of all sequences. `reference` replaces the batch's old log-probs (for KL); `sides` says what clips. */
export function* scoreTask(
  level: TokenLevel,
  score: Score,
  sides: Float64Array | undefined,
  reference = level.checked.oldLogProbs,
): Task<ScoreChannel> {
  const { logProbs, mask, checked } = level;
  const { cuSeqlens } = checked;
  if (score === 'logLikelihood' || score.kind === 'logLikelihood') {
    const { scores, tokenCounts } = yield* sequence.forwardTask(logProbs, cuSeqlens, mask);
    const ones = new Float64Array(checked.sequences).fill(1);
    return { scores, scoreGrads: yield* sequence.backwardTask(ones, tokenCounts, cuSeqlens, mask) };
  }
  const inputs = { logProbs, oldLogProbs: reference, cuSeqlens, mask, sides };
  return yield* ratio.forwardTask(inputs, ratio.scoreParameters(score));
}

/** Checks a score's form and options before any work is done. */
export function checkScore(score: unknown): Score {
  if (score === 'logLikelihood') return score;
  if (typeof score === 'string')
    throw badArgument('ERR_RANGE', 'score', "'logLikelihood' or { kind, ... }", describe(score));
  const object = objectArgument('score', score as Exclude<Score, string>);
  if (object.kind === 'logLikelihood') return object;
  ratio.scoreParameters(object);
  return object;
}

/** dL/dscores of one or more channels to dL/dlogProbs, [T]. */
export function* gradLogProbsTask(
  level: TokenLevel,
  terms: readonly { channel: ScoreChannel; gradScores: Float64Array }[],
): Task<Float64Array> {
  const gradLogProbs = new Float64Array(level.checked.tokens);
  for (const { channel, gradScores } of terms) {
    yield* ratio.accumulateTask(gradScores, channel.scoreGrads, level.checked.cuSeqlens, gradLogProbs);
  }
  return gradLogProbs;
}

/** Where a loss puts its gradient: checked before anything is computed or written. */
export type GradientTarget =
  | { kind: 'none' }
  | { kind: 'logits'; view: LogitsView }
  | { kind: 'logProbs'; out: FloatArray | undefined }; // undefined: a new Float64Array

/** The option for a batch from logits or from log-probs. */
export type BatchGradient<B> = GradientOption<
  B extends { logits: infer L extends Logits } ? L : Float32Array | Float64Array
>;

export function gradientTarget(
  checked: CheckedSequences,
  option: GradientOption<Logits | FloatArray> = 'new',
): GradientTarget {
  if (checked.rows) {
    const view = gradientView(checked.rows.view, option as GradientOption<Logits>);
    return view ? { kind: 'logits', view } : { kind: 'none' };
  }
  if (option === 'none') return { kind: 'none' };
  if (option === 'new') return { kind: 'logProbs', out: undefined };
  if (option === 'in-place') return { kind: 'logProbs', out: checked.logProbsSource };
  if (typeof option !== 'object' || option === null || !('out' in option)) {
    throw badArgument('ERR_RANGE', 'gradient', "'new', 'in-place', 'none' or { out }", describe(option));
  }
  floatsOut(option.out, checked.tokens);
  return { kind: 'logProbs', out: option.out as FloatArray };
}

function floatsOut(out: unknown, tokens: number): void {
  arrayOf('gradient.out', out, ['Float32Array', 'Float64Array'], tokens, 'T, one value per token');
}

/** The gradient in a result: of the logits or of the log-probs, whichever the batch had. */
export interface Gradients {
  gradLogits?: Logits;
  gradLogProbs?: FloatArray;
}

export function* writeGradientTask(
  level: TokenLevel,
  target: GradientTarget,
  gradLogProbs: Float64Array,
): Task<Gradients> {
  const { rows } = level.checked;
  if (target.kind === 'none') return {};
  if (target.kind === 'logProbs') {
    target.out?.set(gradLogProbs);
    return { gradLogProbs: target.out ?? gradLogProbs };
  }
  const masked = { ...rows!, mask: level.mask };
  const upstream = { logSumExp: level.logSumExp!, gradLogProbs };
  return { gradLogits: yield* token.backwardTask(masked, target.view, upstream) };
}
