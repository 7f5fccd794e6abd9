import { outputArray } from '../backend/outputs.js';
import { newArray } from '../memory.js';
import type { Numbers, WholeNumbers } from '../number-lists.js';
import { takeFields } from '../options.js';
import { finiteResult, finiteResults } from '../overflow.js';
import {
  RATIO_SCORE_NAMES,
  type RatioScore,
  rejectTokenWeights,
  type ScoreParameters,
  scoreParameters,
} from '../ratio-score.js';
import {
  type AsyncOptions,
  type BackendOptions,
  kernel,
  type MaybePending,
  optionsOf,
  type Pending,
  pending,
  readAll,
  runAsync,
  runSync,
  type Task,
} from '../run/task.js';
import { atOnceIfShort, raggedSlices, type Sliced, slices } from '../slices.js';
import {
  type FloatArray,
  finiteFloats,
  ifGiven,
  maskedFinite,
  maskedFloats,
  objectArgument,
  offsets,
  optionalMask,
  typedArray,
} from '../validate.js';
import { gradientArray, type LogProbGradientOptions } from './sequence-log-probs.js';

/** Inputs of {@link ratioScores}. */
export interface RatioScoresInputs {
  /** [T] log-probs of the policy; finite wherever the mask keeps the token. */
  logProbs: FloatArray;
  /** [T] log-probs of the behaviour policy (for estimators of KL: of the reference). Omitted: on-policy, every ratio is 1. */
  oldLogProbs?: FloatArray | undefined;
  /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`. */
  cuSeqlens: WholeNumbers;
  /** [T]; 0 drops a token. */
  mask?: Uint8Array | undefined;
  /** [N], the sign says which side is clipped (advantages, or +1 / -1). 0: neither. Omitted: the signs of `tokenWeights` decide. */
  sides?: Numbers | undefined;
  /**
   * [T] constants that multiply a token's term of the mean, such as per-token advantages or importance weights; without
   * `sides` their signs are the tokens' sides. Not for geometricRatio.
   */
  tokenWeights?: FloatArray | undefined;
  /** [T] log-probs of the policy that sampled, for `klWeight: 'ratio'`. Omitted: on-policy, that ratio is 1. */
  samplerLogProbs?: FloatArray | undefined;
}

/** Options of {@link ratioScores}. */
export interface RatioScoresOptions extends BackendOptions {
  /** Default `{ kind: 'ratio' }`. */
  score?: RatioScore | undefined;
}

/** Result of {@link ratioScores}. */
export interface RatioScores {
  /** [N] */
  scores: Float64Array;
  /** [N] unmasked tokens of each sequence. */
  tokenCounts: Float64Array;
  /** [T] derivative of a token's sequence score by its log-prob; 0 where masked or clipped. */
  scoreGrads: Float64Array;
  /** [N] tokens that the lower bound clipped. */
  clippedLow: Int32Array;
  /** [N] tokens that the upper bound clipped. */
  clippedHigh: Int32Array;
}

/** Inputs of {@link ratioScoresBackward}. */
export interface RatioScoresBackwardInputs {
  /** [N] dL/dscores. */
  gradScores: Numbers;
  /** [T] from the forward pass. */
  scoreGrads: FloatArray;
  /** [N + 1] */
  cuSeqlens: WholeNumbers;
}

/** What the forward pass leaves. */
export interface RatioArrays {
  scores: Pending<Float64Array>; // [N]
  tokenCounts: Pending<Float64Array>; // [N]
  scoreGrads: Pending<Float64Array>; // [T]
  clippedLow: Pending<Int32Array>; // [N]
  clippedHigh: Pending<Int32Array>; // [N]
  ratioStats: Pending<Float64Array> | undefined; // [N, 4]: sum of r, of r^2, of d; largest r
}

/** The forward pass on validated arrays. */
export function* forwardTask(
  inputs: {
    logProbs: MaybePending<Float64Array>;
    oldLogProbs: Float64Array | undefined;
    cuSeqlens: Int32Array;
    mask: MaybePending<Uint8Array> | undefined;
    sides: Float64Array | undefined;
    tokenWeights: Float64Array | undefined;
    samplerLogProbs: Float64Array | undefined;
  },
  parameters: ScoreParameters,
  stats = false,
): Task<RatioArrays> {
  const sequences = inputs.cuSeqlens.length - 1;
  const result = {
    scores: newArray('scores', Float64Array, sequences),
    tokenCounts: newArray('tokenCounts', Float64Array, sequences),
    scoreGrads: outputArray('scoreGrads', inputs.logProbs.length),
    clippedLow: newArray('clippedLow', Int32Array, sequences),
    clippedHigh: newArray('clippedHigh', Int32Array, sequences),
    ratioStats: stats ? newArray('ratioStats', Float64Array, 4 * sequences) : undefined,
  };
  yield kernel('ratioScoresForward', { sequences, ...inputs, ...parameters, ...result });
  return pending(result);
}

/** The gradient of one score, written to `gradLogProbs` or added to it. */
export function* backwardTask(
  gradScores: MaybePending<Float64Array>,
  scoreGrads: MaybePending<Float64Array>,
  cuSeqlens: Int32Array,
  gradLogProbs: MaybePending<Float64Array>,
  accumulate: boolean,
): Task<{ gradLogProbs: Pending<Float64Array> }> {
  const sequences = cuSeqlens.length - 1;
  const args = { gradScores, scoreGrads, cuSeqlens, sequences, accumulate, gradLogProbs };
  yield kernel('ratioScoresBackward', args);
  return pending({ gradLogProbs });
}

const forwardOptions = optionsOf<RatioScoresOptions>('ratioScores', { score: RATIO_SCORE_NAMES });
const backwardOptions = optionsOf<LogProbGradientOptions>('ratioScoresBackward', { gradient: { out: true } });

function* forwardOp(inputs: RatioScoresInputs, { score }: Partial<RatioScoresOptions>): Task<RatioScores> {
  const parameters = scoreParameters(objectArgument('score', score ?? { kind: 'ratio' }));
  const tokens = typedArray('logProbs', inputs.logProbs, ['Float32Array', 'Float64Array']).length;
  const mask = optionalMask(inputs.mask, tokens);
  const cuSeqlens = yield* offsets('cuSeqlens', inputs.cuSeqlens, tokens, 'T');
  const sequences = cuSeqlens.length - 1;
  const tokenWeights = yield* ifGiven(inputs.tokenWeights, (w) => maskedFinite('tokenWeights', w, tokens, mask));
  if (tokenWeights) rejectTokenWeights(parameters, 'tokenWeights');
  const { ratioStats: _none, ...result } = yield* forwardTask(
    {
      logProbs: yield* maskedFinite('logProbs', inputs.logProbs, tokens, mask),
      oldLogProbs: yield* ifGiven(inputs.oldLogProbs, (old) => maskedFloats('oldLogProbs', old, tokens, mask)),
      samplerLogProbs: yield* ifGiven(inputs.samplerLogProbs, (of) =>
        maskedFloats('samplerLogProbs', of, tokens, mask),
      ),
      cuSeqlens,
      mask,
      sides: yield* ifGiven(inputs.sides, (sides) =>
        finiteFloats('sides', sides, sequences, 'N, one value per sequence'),
      ),
      tokenWeights,
    },
    parameters,
  );
  const read = yield* readAll(result);
  const causes = 'logProbs, tokenWeights or ratioMin are too large, or tauPos or tauNeg too small';
  // Without weights the derivatives are bounded.
  yield* finiteResults({ scores: read.scores, scoreGrads: tokenWeights && read.scoreGrads }, causes);
  return read;
}

/** Every product with a score's gradient is within the range of a double. */
function* checkProducts(gradScores: Float64Array, scoreGrads: Float64Array, cuSeqlens: Int32Array): Sliced<void> {
  if (Number.isFinite((yield* largest(gradScores)) * (yield* largest(scoreGrads)))) return;
  yield* raggedSlices(cuSeqlens, (i, begin, end) => {
    for (let t = begin; t < end; t++) {
      const product = gradScores[i] * scoreGrads[t];
      if (Number.isFinite(product)) continue;
      finiteResult('gradLogProbs', product, `gradScores or scoreGrads are too large at token ${t}`);
    }
  });
}

function* largest(values: Float64Array): Sliced<number> {
  let most = 0;
  const work = (begin: number, end: number) => {
    for (let i = begin; i < end; i++) most = Math.max(most, Math.abs(values[i]));
  };
  if (!atOnceIfShort(values.length, work)) yield* slices(values.length, work);
  return most;
}

function* backwardOp(
  inputs: RatioScoresBackwardInputs,
  options: Partial<LogProbGradientOptions>,
): Task<{ gradLogProbs: Float64Array }> {
  const cuSeqlens = yield* offsets('cuSeqlens', inputs.cuSeqlens);
  const sequences = cuSeqlens.length - 1;
  const tokens = cuSeqlens[sequences];
  const gradScores = yield* finiteFloats('gradScores', inputs.gradScores, sequences, 'N, one value per sequence');
  const scoreGrads = yield* finiteFloats('scoreGrads', inputs.scoreGrads, tokens, 'T, one value per token');
  const { array, own } = gradientArray(options.gradient, tokens, inputs);
  yield* checkProducts(gradScores, scoreGrads, cuSeqlens);
  yield* readAll(yield* backwardTask(gradScores, scoreGrads, cuSeqlens, array, false));
  return { gradLogProbs: own };
}

/**
 * Sequence scores on importance ratios, and the KL estimators: see {@link RatioScore} for the formulas.
 *
 * @example
 * ```ts
 * import { ratioScores } from 'rlvr-kernels';
 *
 * const { scores, clippedHigh } = await ratioScores(
 *   {
 *     logProbs: Float32Array.of(-0.1, -0.5, -0.9), // [T]
 *     oldLogProbs: Float32Array.of(-0.4, -0.5, -0.6), // [T]
 *     cuSeqlens: Int32Array.of(0, 1, 3),
 *     sides: Float64Array.of(1, -1), // [N] the sign of each sequence's advantage
 *   },
 *   { score: { kind: 'clippedRatio', epsilonHigh: 0.28 } },
 * );
 * console.log(scores, clippedHigh); // => Float64Array(2) [ 1.28, 0.9 ] Int32Array(2) [ 1, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function ratioScores(
  inputs: RatioScoresInputs,
  options?: RatioScoresOptions & AsyncOptions,
): Promise<RatioScores> {
  const own = forwardOptions.async(options);
  return runAsync(forwardOp, takeFields('inputs', inputs), own);
}

/** {@link ratioScores}, blocking. */
export function ratioScoresSync(inputs: RatioScoresInputs, options?: RatioScoresOptions): RatioScores {
  const own = forwardOptions.sync(options);
  return runSync(forwardOp, takeFields('inputs', inputs), own);
}

/**
 * `gradLogProbs[t] = gradScores[i] * scoreGrads[t]` for every token t of sequence i, [T].
 *
 * Works on the `scoreGrads` of {@link ratioScores}, whatever the score.
 *
 * @example
 * ```ts
 * import { ratioScores, ratioScoresBackward } from 'rlvr-kernels';
 *
 * const logProbs = Float32Array.of(-0.1, -0.5, -0.9);
 * const cuSeqlens = Int32Array.of(0, 1, 3);
 * const { scoreGrads } = await ratioScores({ logProbs, cuSeqlens }); // on-policy: every ratio is 1
 * const { gradLogProbs } = await ratioScoresBackward({ gradScores: Float64Array.of(2, -2), scoreGrads, cuSeqlens });
 * console.log(gradLogProbs); // => Float64Array(3) [ 2, -1, -1 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function ratioScoresBackward(
  inputs: RatioScoresBackwardInputs,
  options?: LogProbGradientOptions & AsyncOptions,
): Promise<{ gradLogProbs: Float64Array }> {
  const own = backwardOptions.async(options);
  return runAsync(backwardOp, takeFields('inputs', inputs), own);
}

/** {@link ratioScoresBackward}, blocking. */
export function ratioScoresBackwardSync(
  inputs: RatioScoresBackwardInputs,
  options?: LogProbGradientOptions,
): { gradLogProbs: Float64Array } {
  const own = backwardOptions.sync(options);
  return runSync(backwardOp, takeFields('inputs', inputs), own);
}
