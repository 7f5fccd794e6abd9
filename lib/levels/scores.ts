// The sequence level: a score of every sequence from the log-probs of its tokens.

import { badArgument, describe } from '../errors.js';
import { spreadOverTokens } from '../groups.js';
import type { TokenTerm } from '../kernels.js';
import { newArray } from '../memory.js';
import * as ratio from '../ops/ratio-scores.js';
import * as sequence from '../ops/sequence-log-probs.js';
import { takeSpelledOptions } from '../options.js';
import { isTokenMean, type KlScore, RATIO_SCORE_NAMES, type RatioScore, scoreParameters } from '../ratio-score.js';
import { type MaybePending, type Pending, read, type Task } from '../run/task.js';
import { mapped, slices } from '../slices.js';
import { objectArgument } from '../validate.js';
import type { CheckedSequences } from './batch.js';
import { maskTask, type TokenLevel } from './token-level.js';

/** How a sequence is scored: its mean log-prob, or a score on importance ratios. */
export type Score = 'logLikelihood' | { kind: 'logLikelihood' } | RatioScore;

/** A score of every sequence, and its derivative by every log-prob. */
export interface ScoreChannel {
  scores: Pending<Float64Array>; // [N]
  tokenCounts: Pending<Float64Array>; // [N]
  scoreGrads: MaybePending<Float64Array> | undefined; // [T]; undefined for a mean: 1 / tokenCounts for each of its tokens
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

/** What of the tokens a score looks at. */
type ScoredTokens = Pick<TokenLevel, 'checked' | 'logProbs' | 'mask'>;

/** Scores of all sequences. */
export function* scoreTask(level: ScoredTokens, score: Score, inputs: ScoreInputs = {}): Task<ScoreChannel> {
  const { logProbs, mask, checked } = level;
  const { cuSeqlens, oldLogProbs, rolloutLogProbs } = checked;
  const { sides, tokenWeights } = inputs;
  if (score !== 'logLikelihood' && score.kind !== 'logLikelihood') {
    const weighted = score.klWeight === 'ratio' ? oldLogProbs : undefined;
    const samplerLogProbs = score.kind === 'gammaWeight' ? rolloutLogProbs : weighted;
    const arrays = { logProbs, oldLogProbs, cuSeqlens, mask, sides, tokenWeights, samplerLogProbs };
    const result = yield* ratio.forwardTask(arrays, scoreParameters(score), true);
    const { scores, tokenCounts, scoreGrads, ratioStats, clippedLow, clippedHigh } = result;
    if (!CLIPPING.has(score.kind)) return { scores, tokenCounts, scoreGrads, ratioStats };
    return { scores, tokenCounts, scoreGrads, ratioStats, clippedLow, clippedHigh };
  }
  if (!tokenWeights) return yield* meanTask(level, logProbs);
  // With weights it is the stopped ratio of an on-policy batch: every ratio is 1.
  const none = { oldLogProbs: undefined, samplerLogProbs: undefined };
  const onPolicy = { logProbs, cuSeqlens, mask, sides, tokenWeights, ...none };
  const { scores, tokenCounts, scoreGrads } = yield* ratio.forwardTask(onPolicy, scoreParameters(STOPPED));
  return { scores, tokenCounts, scoreGrads };
}

/** Whether a score is a mean of terms that each depend on one token only. */
const isMeanOfTokens = (score: Score) =>
  typeof score === 'string' || score.kind === 'logLikelihood' || isTokenMean(scoreParameters(score));

/**
 * [T] the terms whose means over each sequence are the scores, 0 where a token does not count. Those of a mean are the scores of a batch
 * in which each token is a sequence; those of a sequence as a whole are equal, up to the side and weight of each token;
 * and where log-probs have a constant weight, it is what their derivative says.
 */
export function* tokenTermsTask(level: TokenLevel, score: Score, inputs: ScoreInputs = {}): Task<Float64Array> {
  const { checked } = level;
  const { tokens, cuSeqlens } = checked;
  const mask = yield* maskTask(level);
  const { tokenWeights } = inputs;
  const sides = inputs.sides && (yield* spreadOverTokens(inputs.sides, cuSeqlens, undefined));
  if (isMeanOfTokens(score)) {
    const each = newArray('tokenLosses', Int32Array, tokens + 1);
    yield* slices(tokens + 1, (begin, end) => {
      for (let t = begin; t < end; t++) each[t] = t;
    });
    const own = { ...level, checked: { ...checked, cuSeqlens: each, sequences: tokens } };
    const [terms] = yield* read((yield* scoreTask(own, score, { sides, tokenWeights })).scores);
    return yield* mapped(terms, (term, t) => (mask?.[t] === 0 ? 0 : term));
  }
  if (typeof score !== 'string' && (score.kind === 'stoppedRatio' || score.kind === 'gammaWeight')) {
    const channel = yield* scoreTask(level, score, inputs);
    const [grads, counts, logProbs] = yield* read(channel.scoreGrads!, channel.tokenCounts, level.logProbs);
    const lengths = yield* spreadOverTokens(counts, cuSeqlens, mask);
    return yield* mapped(grads, (grad, t) => (mask?.[t] === 0 ? 0 : grad * lengths[t] * logProbs[t]));
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
  if (form.kind === 'logLikelihood') {
    const none = { oldLogProbs: undefined, samplerLogProbs: undefined };
    return { ...none, sides, tokenWeights, ...scoreParameters(STOPPED) };
  }
  const parameters = scoreParameters(form);
  return isTokenMean(parameters)
    ? { oldLogProbs, samplerLogProbs: undefined, sides, tokenWeights, ...parameters }
    : undefined;
}

const STOPPED = { kind: 'stoppedRatio' } as const;

/** The scores that have a clip, whose counts mean something. */
const CLIPPING = new Set<string>([
  'clippedRatio',
  'sequenceRatio',
  'geometricRatio',
  'stoppedRatio',
  'trustRegionTv',
  'trustRegionKl',
]);

/** What a batch's log-probs are to its old ones, for a loss whose score has no ratios: [N, 4] as RatioArrays; undefined without old ones. */
export function* ratioStatsTask({ checked, logProbs, mask }: TokenLevel): Task<Pending<Float64Array> | undefined> {
  const { cuSeqlens, oldLogProbs } = checked;
  if (!oldLogProbs) return undefined;
  const none = { sides: undefined, tokenWeights: undefined, samplerLogProbs: undefined };
  const arrays = { logProbs, oldLogProbs, cuSeqlens, mask, ...none };
  return (yield* ratio.forwardTask(arrays, scoreParameters({ kind: 'ratio' }), true)).ratioStats;
}

/** The mean of per-token values over each sequence, as a score. */
export function* meanTask({ checked, mask }: ScoredTokens, values: MaybePending<Float64Array>): Task<ScoreChannel> {
  const { cuSeqlens } = checked;
  const { scores, tokenCounts } = yield* sequence.forwardTask(values, cuSeqlens, mask);
  return { scores, tokenCounts, scoreGrads: undefined };
}

/** An estimate of KL to the policy of `reference`, as a score; the ratio that may multiply it is that to the old policy. Weights [T]. */
export function* klTask(
  { checked, logProbs, mask }: TokenLevel,
  estimator: KlScore,
  reference: Float64Array | undefined,
  tokenWeights?: Float64Array,
): Task<ScoreChannel> {
  const { cuSeqlens, oldLogProbs } = checked;
  const samplerLogProbs = estimator.klWeight === 'ratio' ? oldLogProbs : undefined;
  const common = { logProbs, cuSeqlens, mask, sides: undefined };
  const inputs = { ...common, oldLogProbs: reference, samplerLogProbs, tokenWeights };
  const { scores, tokenCounts, scoreGrads } = yield* ratio.forwardTask(inputs, scoreParameters(estimator));
  return { scores, tokenCounts, scoreGrads };
}

/** Checks a score's form and options before any work is done. */
export function checkScore(score: unknown): Score {
  if (score === 'logLikelihood') return score;
  if (typeof score === 'string')
    throw badArgument('ERR_RANGE', 'score', "'logLikelihood' or { kind, ... }", describe(score));
  const given = objectArgument('score', score as Exclude<Score, string>);
  const object = takeSpelledOptions('the score', given, RATIO_SCORE_NAMES) as Exclude<Score, string>;
  if (object.kind === 'logLikelihood') return object;
  scoreParameters(object);
  return object;
}
