// forward(): scores for an objective the user writes in TypeScript, and the way back from its gradient.

import { badArgument } from '../errors.js';
import { hashedNumbers } from '../hashes.js';
import type { Backend } from '../kernels.js';
import { LAYER_PLACES, type LayerPlaces } from '../layer.js';
import type { MatrixGradientOption } from '../matrices.js';
import { type Numbers, replaceLists } from '../number-lists.js';
import type { OptionNames, Taken } from '../options.js';
import { takeFields, takeOptions } from '../options.js';
import { finiteResults } from '../overflow.js';
import { agreementOn } from '../run/agreement.js';
import { amongRanks, amongRanksSync, type Parallel, partRanks, type RankGrid } from '../run/ranks.js';
import { type AsyncOptions, type BackendOptions, optionsOf, read, runAsync, runSync, type Task } from '../run/task.js';
import { finiteFloats, ifGiven, optionsArgument } from '../validate.js';
import {
  backwardFields,
  checkSequences,
  recheckSequences,
  type SequenceBatch,
  TOKEN_LEVEL_OPTIONS,
  type TokenLevelOptions,
} from './batch.js';
import {
  type BatchGradient,
  type GradientOf,
  type Gradients,
  gradientTarget,
  type PendingGradient,
  writeGradientTask,
} from './gradient.js';
import { checkScore, type Score, type ScoreChannel, scoreTask } from './scores.js';
import { ownLogProbs, readResults, type TokenLevel, tokenLevelTask } from './token-level.js';
import { meetColumns } from './whole-rows.js';
import { joinTokens, meetTokens, ownTerms, type Pieces } from './whole-sequences.js';

/** Options of {@link forward}. */
export interface ForwardOptions extends BackendOptions, TokenLevelOptions {
  /**
   * The ranks that hold other columns of the logits, or rows of the weight, and those that hold other tokens of the same sequences: each
   * calls `forward`, and then `backward`, as often as the others. (Ranks with other sequences call `forward` each for itself: scores are of
   * their own.)
   */
  parallel?: Pick<Parallel, 'vocab' | 'sequence'> | undefined;
  /** [N], the sign says which side of a one-sided clip a sequence is on. Omitted or 0: neither is clipped. */
  sides?: Numbers | undefined;
  /** Also return the entropy of every row (from logits only). Default false. */
  entropy?: boolean | undefined;
}

/** The forward pass of a batch. */
export interface ForwardResult {
  /** [N] sequence scores. */
  scores: Float64Array;
  /** [N] tokens that count in each sequence. */
  tokenCounts: Float64Array;
  /** [T] log-probs of the sampled tokens; 0 where masked. */
  logProbs: Float64Array;
  /** [T] entropy of every row, on request. */
  entropy?: Float64Array;
  /** Tokens dropped by `onNonFinite: 'skip'`. */
  nonFiniteTokens: number;
}

/** Options of the backward pass. */
export interface BackwardOptions<B> {
  /** Where the gradient goes, or from hidden states whether there is one. `'in-place'` overwrites the logits: no further backward pass after that. Default `'new'`. */
  gradient?: BatchGradient<B> | undefined;
}

type Place = MatrixGradientOption;

/** Result of {@link forward}. */
export interface Forward<B> extends ForwardResult {
  /**
   * From dL/dscores [N] to the gradient of the logits (or of hidden states and their layer, or of log-probs, whichever the batch has).
   * It reads logits, hidden states, weight, bias, targets and mask of the batch again, unless `forward` copied them (`copyInputs`).
   */
  backward<H extends Place = 'new', W extends Place = 'new', C extends Place = 'new'>(
    gradScores: Numbers,
    options?: BackwardOptions<B> & LayerPlaces<H, W, C> & Omit<AsyncOptions, keyof BackendOptions>,
  ): Promise<GradientOf<B, LayerPlaces<H, W, C>>>;
}

/** Result of {@link forwardSync}. */
export interface ForwardSync<B> extends ForwardResult {
  /** As {@link Forward.backward}, blocking. */
  backward<H extends Place = 'new', W extends Place = 'new', C extends Place = 'new'>(
    gradScores: Numbers,
    options?: BackwardOptions<B> & LayerPlaces<H, W, C>,
  ): GradientOf<B, LayerPlaces<H, W, C>>;
}

const BACKWARD_OPTIONS: OptionNames = { gradient: { out: true }, ...LAYER_PLACES };
const ASYNC_BACKWARD_OPTIONS: OptionNames = { ...BACKWARD_OPTIONS, signal: true, copyInputs: true };
const forwardOptions = optionsOf<ForwardOptions>('forward', {
  ...TOKEN_LEVEL_OPTIONS,
  sides: true,
  entropy: true,
  parallel: { vocab: { comm: true, start: true }, sequence: true },
});

/** With the ranks of the option. */
type Among<O> = O & { grid?: RankGrid };

interface State {
  level: TokenLevel;
  channel: ScoreChannel; // of whole sequences
  pieces: Pieces | undefined;
  result: ForwardResult;
}

function* forwardTask(
  batch: SequenceBatch,
  score: Score,
  options: Among<Partial<ForwardOptions>>,
  backend: Backend,
): Task<State> {
  const { grid } = options;
  if (grid?.data) {
    const expected = 'none: scores are of the sequences of each rank by itself';
    throw badArgument('ERR_RANGE', 'parallel.data', expected, `${grid.data.size} ranks`);
  }
  const checkedScore = checkScore(score); // before the arrays are checked: a getter of it may do anything to them
  const checked = yield* checkSequences(batch, options, false, grid?.vocab);
  const sides = yield* ifGiven(options.sides, (s) =>
    finiteFloats('sides', s, checked.sequences, 'N, one value per sequence'),
  );
  const agreement = grid ? [agreementOn(batch, options, [checkedScore]), yield* hashedNumbers([sides])] : [];
  if (checked.columns) yield* meetColumns(checked, checked.columns, agreement);
  const pieces = grid?.sequence && (yield* meetTokens(grid.sequence, checked, batch, agreement));
  const keepOn = backend.name === 'cuda' ? undefined : backend.name; // a device keeps nothing beyond a call
  const level = yield* tokenLevelTask(checked, options.entropy === true, keepOn);
  const whole = pieces ? yield* joinTokens(pieces, level, pieces.whole) : level;
  const channel = yield* scoreTask(whole, checkedScore, { sides });
  const { logSumExp, mask, logProbs, entropy } = level; // what the backward pass will send again, as scoreGrads
  const { scores, tokenCounts, scoreGrads } = channel;
  const { nonFinite } = whole;
  const wanted = { nonFinite, scores, tokenCounts, scoreGrads, logProbs, logSumExp, entropy, mask };
  const read = yield* readResults(level, wanted);
  yield* finiteResults({ scores: read.scores }, 'log-probs, or parameters of the score, are too large');
  const result: ForwardResult = {
    scores: read.scores,
    tokenCounts: read.tokenCounts.slice(), // the backward pass needs its own, whatever the caller does with these
    logProbs: yield* ownLogProbs(level, read.logProbs),
    nonFiniteTokens: read.nonFinite[0],
    ...(read.entropy && { entropy: read.entropy }),
  };
  if (grid) yield* partRanks(grid);
  return { level, channel, pieces, result };
}

type BackwardFields = ReturnType<typeof backwardFields> & { gradScores: Numbers };

function* backwardTask<B extends SequenceBatch>(
  { level, channel, pieces }: State,
  fields: BackwardFields,
  options: Among<BackwardOptions<B> & LayerPlaces>,
): Task<Gradients> {
  const { grid } = options;
  const checked = yield* recheckSequences(level.checked, fields);
  if (grid?.vocab) checked.columns = { ...checked.columns!, ranks: grid.vocab.ranks };
  const mask = level.mask === level.checked.mask ? checked.mask : level.mask;
  const upstream = yield* finiteFloats('gradScores', fields.gradScores, checked.sequences, 'N, one value per sequence');
  const target = gradientTarget(checked, options, fields);
  const ofAll = [{ of: 'logProbs' as const, channel, gradScores: upstream }];
  const terms = pieces ? yield* ownTerms(pieces, ofAll) : ofAll;
  const gradient: PendingGradient = yield* writeGradientTask({ ...level, checked, mask }, target, terms, true);
  const [badRows] = yield* read(gradient.badRows);
  if (badRows) gradient.checkRows?.(badRows);
  const [array] = yield* read(gradient.array);
  const gradients = yield* gradient.finish(array);
  if (grid) yield* partRanks(grid);
  return gradients;
}

/**
 * Scores every sequence of a batch, and returns the way back to the gradient: compute any objective of the scores, then call
 * `backward(dL/dscores)`. For a loss with options, metrics and a blocking twin, see {@link defineLoss}.
 *
 * The score is `'logLikelihood'` (mean log-prob) or a {@link RatioScore}; T tokens in N sequences give scores [N]. The backward
 * pass gives the gradient to the logits [T, V] or to the log-probs [T], whichever the batch holds, as often as it is called.
 *
 * @example
 * ```ts
 * import { forward } from 'rlvr-kernels';
 *
 * const logProbs = Float32Array.of(-0.1, -0.5, -0.9);
 * const { scores, backward } = await forward({ logProbs, cuSeqlens: Int32Array.of(0, 1, 3) }, 'logLikelihood');
 * const loss = (scores[0] - scores[1]) ** 2; // any function of the scores
 * const slope = 2 * (scores[0] - scores[1]);
 * const { gradLogProbs } = await backward(Float64Array.of(slope, -slope));
 * console.log(loss, gradLogProbs); // => 0.36 Float64Array(3) [ 1.2, -0.6, -0.6 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function forward<B extends SequenceBatch>(
  batch: B,
  score: Score,
  options?: ForwardOptions & AsyncOptions,
): Promise<Forward<B>> {
  const { state, own } = await amongRanks(options, async (grid) => {
    const own: Among<ForwardOptions & AsyncOptions> = { ...forwardOptions.async(options), ...(grid && { grid }) };
    replaceLists(own as Taken);
    const op = (fields: B, options: ForwardOptions, on: Backend) => forwardTask(fields, score, options, on);
    return { own, state: await runAsync(op, takeFields('batch', batch), own) };
  });
  return {
    ...state.result,
    backward: (gradScores, given) =>
      amongRanks({ parallel: own.parallel }, async (grid) => {
        const taken = takeOptions('backward', optionsArgument(given), ASYNC_BACKWARD_OPTIONS);
        const { backend, copyInputs } = own;
        const options: Among<BackwardOptions<B> & LayerPlaces & AsyncOptions> = { copyInputs, ...taken, backend };
        if (grid) options.grid = grid;
        const fields = { ...backwardFields(state.level.checked), gradScores };
        replaceLists(fields);
        return (await runAsync((own, how) => backwardTask(state, own, how), fields, options)) as never;
      }),
  };
}

/** {@link forward}, blocking. */
export function forwardSync<B extends SequenceBatch>(batch: B, score: Score, options?: ForwardOptions): ForwardSync<B> {
  const { state, own } = amongRanksSync(options, (grid) => {
    const own: Among<ForwardOptions> = { ...forwardOptions.sync(options), ...(grid && { grid }) };
    replaceLists(own as Taken);
    const op = (fields: B, options: ForwardOptions, on: Backend) => forwardTask(fields, score, options, on);
    return { own, state: runSync(op, takeFields('batch', batch), own) };
  });
  return {
    ...state.result,
    backward: (gradScores, given) =>
      amongRanksSync({ parallel: own.parallel }, (grid) => {
        const taken = takeOptions('backward', optionsArgument(given), BACKWARD_OPTIONS);
        const options: Among<BackwardOptions<B> & LayerPlaces & BackendOptions> = { ...taken, backend: own.backend };
        if (grid) options.grid = grid;
        const fields = { ...backwardFields(state.level.checked), gradScores };
        replaceLists(fields);
        return runSync((own, how) => backwardTask(state, own, how), fields, options) as never;
      }),
  };
}
