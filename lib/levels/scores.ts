// The shared spine of every loss: tokens -> sequence scores, and back from gradients of scores to logits or log-probs.
import type { LogitsData } from '../backend/kernels.js';
import { outputArray, overlap } from '../backend/outputs.js';
import { read, type Task } from '../backend/task.js';
import { badArgument, describe, tag } from '../errors.js';
import { type GradientOption, gradientView, type Logits, type LogitsView } from '../logits.js';
import * as ratio from '../ops/ratio-scores.js';
import * as sequence from '../ops/sequence-log-probs.js';
import * as token from '../ops/token-log-probs.js';
import { arrayOf, type FloatArray, objectArgument } from '../validate.js';
import { type CheckedSequences, givenLogProbs } from './batch.js';

/** How a sequence is scored: its mean log-prob, or a score on importance ratios. */
export type Score = 'logLikelihood' | { kind: 'logLikelihood' } | ratio.RatioScore;

// The arrays of these interfaces may still be on a device: they hold their values only after a read.

/** A score of every sequence, and its derivative by every log-prob. */
export interface ScoreChannel {
  scores: Float64Array; // [N]
  tokenCounts: Float64Array; // [N]
  scoreGrads: Float64Array | undefined; // [T]; undefined for a mean: 1 / tokenCounts for each of its tokens
  clippedLow?: Int32Array; // [N]
  clippedHigh?: Int32Array; // [N]
  ratioStats?: Float64Array | undefined; // [N, 4], as RatioArrays
}

/** A score's part in a loss: dloss/dscores, of a score of the log-probs or of the entropies. */
export interface Term {
  of: 'logProbs' | 'entropy';
  channel: ScoreChannel;
  gradScores: Float64Array; // [N]
}

/** The token level of a batch, done. */
export interface TokenLevel {
  checked: CheckedSequences;
  logProbs: Float64Array; // [T]
  logSumExp: Float64Array | undefined; // [T], from logits
  entropy: Float64Array | undefined; // [T], on request
  mask: Uint8Array | undefined; // [T], without non-finite tokens
  nonFinite: Int32Array; // [1] their number
}

export function* tokenLevelTask(checked: CheckedSequences, entropy: boolean): Task<TokenLevel> {
  if (!checked.rows) return { checked, logSumExp: undefined, entropy: undefined, ...givenLogProbs(checked) };
  const arrays = yield* token.forwardTask(checked.rows, entropy);
  const { logProbs, logSumExp, kept, nonFinite } = arrays;
  return { checked, logProbs, logSumExp, entropy: arrays.entropy, mask: kept, nonFinite };
}

/**
 * Reads `nonFinite` and the given arrays, and throws if there were non-finite tokens and that is an error. Returns their
 * number.
 */
export function* readResults(
  { checked, mask, nonFinite }: TokenLevel,
  arrays: readonly (LogitsData | Float64Array | Int32Array | Uint8Array | undefined)[],
): Task<number> {
  yield* read(nonFinite, ...arrays);
  const { rows, onNonFinite } = checked;
  return rows ? yield* token.checkFinite(rows, { kept: mask!, nonFinite }, onNonFinite) : nonFinite[0];
}

/** [T] log-probs for the caller, once read. Of given ones a copy, 0 where a token does not count, as from logits. */
export function ownLogProbs({ checked, logProbs, mask }: TokenLevel): Float64Array {
  if (checked.rows) return logProbs;
  return mask ? logProbs.map((logProb, t) => (mask[t] === 0 ? 0 : logProb)) : logProbs.slice();
}

/** The mask on the host. It is the given one, already there, unless non-finite tokens are skipped. */
export function* maskTask({ checked, mask }: TokenLevel): Task<Uint8Array | undefined> {
  if (checked.rows && checked.onNonFinite === 'error') return checked.mask;
  yield* read(mask);
  return mask;
}

/** Tokens that count in each sequence, where the host needs them before there is a score. [N] */
export function* tokenCountsTask(level: TokenLevel): Task<Float64Array> {
  const { cuSeqlens, sequences } = level.checked;
  const counts = new Float64Array(sequences);
  const mask = yield* maskTask(level);
  for (let i = 0; i < sequences; i++) {
    if (!mask) counts[i] = cuSeqlens[i + 1] - cuSeqlens[i];
    else for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) counts[i] += mask[t] === 0 ? 0 : 1;
  }
  return counts;
}

/** What a score depends on besides the tokens. */
export interface ScoreInputs {
  /** [N] The sign says which side of a clip a sequence is on. */
  sides?: Float64Array | undefined;
  /** [T] */
  tokenWeights?: Float64Array | undefined;
}

/** Scores of all sequences. */
export function* scoreTask(level: TokenLevel, score: Score, inputs: ScoreInputs = {}): Task<ScoreChannel> {
  const { logProbs, mask, checked } = level;
  const { cuSeqlens, oldLogProbs } = checked;
  const { sides, tokenWeights } = inputs;
  if (score !== 'logLikelihood' && score.kind !== 'logLikelihood') {
    const arrays = { logProbs, oldLogProbs, cuSeqlens, mask, sides, tokenWeights };
    const { clippedLow, clippedHigh, ...channel } = yield* ratio.forwardTask(
      arrays,
      ratio.scoreParameters(score),
      true,
    );
    return CLIPPING.has(score.kind) ? { ...channel, clippedLow, clippedHigh } : channel;
  }
  if (!tokenWeights) return yield* meanTask(level, logProbs);
  // With weights it is the stopped ratio of an on-policy batch: every ratio is 1.
  const onPolicy = { logProbs, oldLogProbs: undefined, cuSeqlens, mask, sides, tokenWeights };
  const { scores, tokenCounts, scoreGrads } = yield* ratio.forwardTask(onPolicy, ratio.scoreParameters(STOPPED));
  return { scores, tokenCounts, scoreGrads };
}

const STOPPED = { kind: 'stoppedRatio' } as const;

/** The scores that have a clip, whose counts mean something. */
const CLIPPING = new Set(['clippedRatio', 'sequenceRatio', 'geometricRatio', 'stoppedRatio']);

/** The mean of per-token values over each sequence, as a score. */
export function* meanTask({ checked, mask }: TokenLevel, values: Float64Array): Task<ScoreChannel> {
  const { cuSeqlens } = checked;
  const { scores, tokenCounts } = yield* sequence.forwardTask(values, cuSeqlens, mask);
  return { scores, tokenCounts, scoreGrads: undefined };
}

/** An estimate of KL to the policy of `reference`, as a score. */
export function* klTask(
  { checked, logProbs, mask }: TokenLevel,
  kind: 'k1' | 'k2' | 'k3',
  reference: Float64Array | undefined,
): Task<ScoreChannel> {
  const { cuSeqlens } = checked;
  const inputs = { logProbs, oldLogProbs: reference, cuSeqlens, mask, sides: undefined, tokenWeights: undefined };
  const { scores, tokenCounts, scoreGrads } = yield* ratio.forwardTask(inputs, ratio.scoreParameters({ kind }));
  return { scores, tokenCounts, scoreGrads };
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

/** dL/dscores of all terms of the log-probs (or of the entropies) to dL/d of those, [T], in `into` if that is given. */
function* tokenGradientTask(
  level: TokenLevel,
  terms: readonly Term[],
  of: Term['of'],
  into?: Float64Array,
): Task<Float64Array> {
  const { tokens, cuSeqlens } = level.checked;
  const [first, ...others] = terms.filter((term) => term.of === of);
  if (!first) return into?.fill(0) ?? new Float64Array(tokens);
  const gradient = into ?? outputArray(tokens);
  const { channel, gradScores } = first;
  if (channel.scoreGrads) yield* ratio.backwardTask(gradScores, channel.scoreGrads, cuSeqlens, gradient, false);
  else yield* sequence.backwardTask(gradScores, channel.tokenCounts, cuSeqlens, level.mask, gradient);
  for (const { channel, gradScores } of others) {
    yield* ratio.backwardTask(gradScores, channel.scoreGrads!, cuSeqlens, gradient, true); // a mean is a first term only
  }
  return gradient;
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

/** `out` if a kernel may write to it: float64, and apart from whatever of the batch may be read after that. */
function writable(out: FloatArray | undefined, checked: CheckedSequences): Float64Array | undefined {
  if (!out || tag(out) !== 'Float64Array') return undefined;
  const apart = Object.values(checked).every((value) => !ArrayBuffer.isView(value) || !overlap(out, value));
  return apart ? (out as Float64Array) : undefined;
}

/** The gradient in a result: of the logits or of the log-probs, whichever the batch had. */
export interface Gradients {
  gradLogits?: Logits;
  gradLogProbs?: FloatArray;
}

/** A gradient on its way: `finish` once `array` has been read. */
export interface PendingGradient {
  array: LogitsData | Float64Array | undefined;
  finish(): Gradients;
}

export function* writeGradientTask(
  level: TokenLevel,
  target: GradientTarget,
  terms: readonly Term[],
): Task<PendingGradient> {
  if (target.kind === 'none') return { array: undefined, finish: () => ({}) };
  const into = target.kind === 'logProbs' ? writable(target.out, level.checked) : undefined;
  const gradLogProbs = yield* tokenGradientTask(level, terms, 'logProbs', into);
  if (target.kind === 'logProbs') {
    const finish = () => {
      if (!into) target.out?.set(gradLogProbs);
      return { gradLogProbs: target.out ?? gradLogProbs };
    };
    return { array: gradLogProbs, finish };
  }
  const { rows, onNonFinite } = level.checked;
  // Where non-finite rows are an error nothing is written; the device may be the only one to know of them yet.
  const halt = onNonFinite === 'error' ? level.nonFinite : undefined;
  const withEntropy = terms.some(({ of }) => of === 'entropy');
  const gradEntropy = withEntropy ? yield* tokenGradientTask(level, terms, 'entropy') : undefined;
  const upstream = { logSumExp: level.logSumExp!, gradLogProbs, entropy: level.entropy, gradEntropy, halt };
  yield* token.backwardTask({ ...rows!, mask: level.mask }, target.view, upstream);
  return { array: target.view.data, finish: () => ({ gradLogits: target.view.source }) };
}
