// The sequence level: a score of every sequence from the log-probs of its tokens.

import { badArgument, describe } from '../errors.js';
import { spreadOverTokens } from '../groups.js';
import type { TokenTerm } from '../kernels.js';
import { newArray } from '../memory.js';
import * as ratio from '../ops/ratio-scores.js';
import * as sequence from '../ops/sequence-log-probs.js';
import { takeSpelledOptions } from '../options.js';
import { type MaybePending, type Pending, read, type Task } from '../run/task.js';
import { mapped, slices } from '../slices.js';
import { objectArgument } from '../validate.js';
import type { CheckedSequences } from './batch.js';
import { maskTask, type TokenLevel } from './token-level.js';

/** How a sequence is scored: its mean log-prob, or a score on importance ratios. */
export type Score = 'logLikelihood' | { kind: 'logLikelihood' } | ratio.RatioScore;

/** A score of every sequence, and its derivative by every log-prob. */
export interface ScoreChannel {
  scores: Pending<Float64Array>; // [N]
  tokenCounts: Pending<Float64Array>; // [N]
  scoreGrads: Pending<Float64Array> | undefined; // [T]; undefined for a mean: 1 / tokenCounts for each of its tokens
  clippedLow?: Pending<Int32Array>; // [N]
  clippedHigh?: Pending<Int32Array>; // [N]
  ratioStats?: Pending<Float64Array> | undefined; // [N, 4], as RatioArrays
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
    const result = yield* ratio.forwardTask(arrays, ratio.scoreParameters(score), true);
    const { scores, tokenCounts, scoreGrads, ratioStats, clippedLow, clippedHigh } = result;
    if (!CLIPPING.has(score.kind)) return { scores, tokenCounts, scoreGrads, ratioStats };
    return { scores, tokenCounts, scoreGrads, ratioStats, clippedLow, clippedHigh };
  }
  if (!tokenWeights) return yield* meanTask(level, logProbs);
  // With weights it is the stopped ratio of an on-policy batch: every ratio is 1.
  const onPolicy = { logProbs, oldLogProbs: undefined, cuSeqlens, mask, sides, tokenWeights };
  const { scores, tokenCounts, scoreGrads } = yield* ratio.forwardTask(onPolicy, ratio.scoreParameters(STOPPED));
  return { scores, tokenCounts, scoreGrads };
}

/** The scores that are means of terms that each depend on one token only. */
const TOKEN_MEANS = new Set(['logLikelihood', 'ratio', 'clippedRatio', 'stoppedRatio', 'softGate', 'k1', 'k2', 'k3']);

/** The scores of a sequence as a whole, in which each of its tokens has the same part. */
const SEQUENCE_SCORES = new Set(['sequenceRatio', 'geometricRatio']);

/** Refuses, by the option that asks for them, scores without terms of tokens that could be told. */
export function requireTokenTerms(score: Score, option: string): void {
  const kind = typeof score === 'string' ? score : score.kind;
  if (TOKEN_MEANS.has(kind) || SEQUENCE_SCORES.has(kind)) return;
  throw badArgument('ERR_RANGE', option, 'none with this score', kind);
}

/**
 * [T] the terms whose means over each sequence are the scores, 0 where a token does not count. Those of a mean are the scores of a batch
 * in which each token is a sequence; those of a sequence as a whole are equal, up to the side and weight of each token.
 */
export function* tokenTermsTask(level: TokenLevel, score: Score, inputs: ScoreInputs = {}): Task<Float64Array> {
  const { checked } = level;
  const { tokens, cuSeqlens } = checked;
  const mask = yield* maskTask(level);
  const kind = typeof score === 'string' ? score : score.kind;
  const { tokenWeights } = inputs;
  const sides = inputs.sides && (yield* spreadOverTokens(inputs.sides, cuSeqlens, undefined));
  if (!SEQUENCE_SCORES.has(kind)) {
    const each = newArray('tokenLosses', Int32Array, tokens + 1);
    yield* slices(tokens + 1, (begin, end) => {
      for (let t = begin; t < end; t++) each[t] = t;
    });
    const own = { ...level, checked: { ...checked, cuSeqlens: each, sequences: tokens } };
    const [terms] = yield* read((yield* scoreTask(own, score, { sides, tokenWeights })).scores);
    return yield* mapped(terms, (term, t) => (mask?.[t] === 0 ? 0 : term));
  }
  // The sign of its advantage decides which clip a token meets: the scores as if it were that of all.
  const onSide = function* (side: number): Task<Float64Array> {
    const all = newArray('tokenLosses', Float64Array, cuSeqlens.length - 1).fill(side);
    const [scores] = yield* read((yield* scoreTask(level, score, { sides: all })).scores);
    return yield* spreadOverTokens(scores, cuSeqlens, mask);
  };
  const [below, neither, above] = [yield* onSide(-1), yield* onSide(0), yield* onSide(1)];
  return yield* mapped(neither, (term, t) => {
    const side = sides ? sides[t] : (tokenWeights?.[t] ?? 0);
    return (mask?.[t] === 0 ? 0 : (tokenWeights?.[t] ?? 1)) * (side > 0 ? above[t] : side < 0 ? below[t] : term);
  });
}

/** What a token's part in such a score depends on besides its log-prob; undefined for other scores. */
export function tokenRules(
  { oldLogProbs }: Pick<CheckedSequences, 'oldLogProbs'>,
  score: Score,
  { sides, tokenWeights }: ScoreInputs = {},
): Omit<TokenTerm, 'gradScores'> | undefined {
  const form = typeof score === 'string' ? { kind: score } : score;
  if (!TOKEN_MEANS.has(form.kind)) return undefined;
  if (form.kind === 'logLikelihood') {
    return { oldLogProbs: undefined, sides, tokenWeights, ...ratio.scoreParameters(STOPPED) };
  }
  return { oldLogProbs, sides, tokenWeights, ...ratio.scoreParameters(form) };
}

const STOPPED = { kind: 'stoppedRatio' } as const;

/** The scores that have a clip, whose counts mean something. */
const CLIPPING = new Set(['clippedRatio', 'sequenceRatio', 'geometricRatio', 'stoppedRatio']);

/** The mean of per-token values over each sequence, as a score. */
export function* meanTask({ checked, mask }: TokenLevel, values: MaybePending<Float64Array>): Task<ScoreChannel> {
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
  const given = objectArgument('score', score as Exclude<Score, string>);
  const object = takeSpelledOptions('the score', given, ratio.RATIO_SCORE_NAMES) as Exclude<Score, string>;
  if (object.kind === 'logLikelihood') return object;
  ratio.scoreParameters(object);
  return object;
}
