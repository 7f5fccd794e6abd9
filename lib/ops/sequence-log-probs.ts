import { checkApart, extentOf } from '../backend/extents.js';
import { outputArray } from '../backend/outputs.js';
import { badArgument, describe } from '../errors.js';
import { newArray } from '../memory.js';
import type { Numbers, WholeNumbers } from '../number-lists.js';
import { takeFields } from '../options.js';
import { finiteResults } from '../overflow.js';
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
import {
  allFinite,
  arrayOf,
  type FloatArray,
  finiteFloats,
  floats,
  maskedFinite,
  offsets,
  optionalMask,
  tokenCounts,
  typedArray,
} from '../validate.js';

/** Inputs of {@link sequenceLogProbs}. */
export interface SequenceLogProbsInputs {
  /** [T] log-probs; finite wherever the mask keeps the token. */
  logProbs: FloatArray;
  /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`. */
  cuSeqlens: WholeNumbers;
  /** [T]; 0 drops a token. */
  mask?: Uint8Array | undefined;
}

/** Result of {@link sequenceLogProbs}. */
export interface SequenceLogProbs {
  /** [N] mean log-prob of each sequence's unmasked tokens; 0 for a sequence without any. */
  scores: Float64Array;
  /** [N] unmasked tokens of each sequence. */
  tokenCounts: Float64Array;
}

/** Inputs of {@link sequenceLogProbsBackward}. */
export interface SequenceLogProbsBackwardInputs {
  /** [N] dL/dscores. */
  gradScores: Numbers;
  /** [N] from the forward pass. */
  tokenCounts: Numbers;
  /** [N + 1] */
  cuSeqlens: WholeNumbers;
  /** [T] */
  mask?: Uint8Array | undefined;
}

/** What the forward pass leaves. */
export interface SequenceArrays {
  scores: Pending<Float64Array>; // [N]
  tokenCounts: Pending<Float64Array>; // [N]
}

/** The forward pass on validated arrays. */
export function* forwardTask(
  logProbs: MaybePending<Float64Array>,
  cuSeqlens: Int32Array,
  mask: MaybePending<Uint8Array> | undefined,
): Task<SequenceArrays> {
  const sequences = cuSeqlens.length - 1;
  const result = {
    scores: newArray('scores', Float64Array, sequences),
    tokenCounts: newArray('tokenCounts', Float64Array, sequences),
  };
  yield kernel('sequenceLogProbsForward', { logProbs, cuSeqlens, mask, sequences, ...result });
  return pending(result);
}

/** The backward pass on validated arrays. */
export function* backwardTask(
  gradScores: MaybePending<Float64Array>,
  tokenCounts: MaybePending<Float64Array>,
  cuSeqlens: Int32Array,
  mask: MaybePending<Uint8Array> | undefined,
  gradLogProbs: Float64Array,
): Task<{ gradLogProbs: Pending<Float64Array> }> {
  const sequences = cuSeqlens.length - 1;
  const args = { gradScores, tokenCounts, cuSeqlens, mask, sequences, gradLogProbs };
  yield kernel('sequenceLogProbsBackward', args);
  return pending({ gradLogProbs });
}

const forwardOptions = optionsOf<BackendOptions>('sequenceLogProbs', {});
const backwardOptions = optionsOf<LogProbGradientOptions>('sequenceLogProbsBackward', { gradient: { out: true } });

function* forwardOp(inputs: SequenceLogProbsInputs): Task<SequenceLogProbs> {
  const tokens = typedArray('logProbs', inputs.logProbs, ['Float32Array', 'Float64Array']).length;
  const mask = optionalMask(inputs.mask, tokens);
  const logProbs = yield* floats('logProbs', inputs.logProbs, tokens, 'T, one value per token');
  const cuSeqlens = yield* offsets('cuSeqlens', inputs.cuSeqlens, tokens, 'T');
  const result = yield* readAll(yield* forwardTask(logProbs, cuSeqlens, mask));
  // What is not finite makes its sequence's sum so: no need to look at every token before.
  if (!(yield* allFinite(result.scores))) yield* maskedFinite('logProbs', logProbs, tokens, mask);
  yield* finiteResults({ scores: result.scores }, 'logProbs are too large');
  return result;
}

/** A preallocated array for a gradient of log-probs. @inline */
export interface GradientInto {
  /** [T] */
  out: Float64Array;
}

/** Options of {@link sequenceLogProbsBackward} and {@link ratioScoresBackward}. */
export interface LogProbGradientOptions extends BackendOptions {
  /** Default `'new'`; `{ out }` writes to a preallocated [T] array, which must share no memory with an input. */
  gradient?: 'new' | GradientInto | undefined;
}

/** The [T] array for a gradient of log-probs, apart from all `inputs`: for the kernel, and as the caller has it. */
export function gradientArray(
  option: LogProbGradientOptions['gradient'],
  tokens: number,
  inputs: object,
): { array: Float64Array; own: Float64Array } {
  if (option === undefined || option === 'new') {
    const array = outputArray('gradLogProbs', tokens);
    return { array, own: array };
  }
  if (typeof option !== 'object' || option === null || !('out' in option)) {
    throw badArgument('ERR_RANGE', 'gradient', "'new' or { out }", describe(option));
  }
  const out = arrayOf('gradient.out', option.out, ['Float64Array'], tokens, 'T, one value per token');
  checkApart('gradient.out', extentOf(out), inputs, []);
  return { array: out, own: option.out };
}

function* backwardOp(
  inputs: SequenceLogProbsBackwardInputs,
  options: Partial<LogProbGradientOptions>,
): Task<{ gradLogProbs: Float64Array }> {
  const cuSeqlens = yield* offsets('cuSeqlens', inputs.cuSeqlens);
  const sequences = cuSeqlens.length - 1;
  const gradScores = yield* finiteFloats('gradScores', inputs.gradScores, sequences, 'N, one value per sequence');
  const counts = yield* tokenCounts(inputs.tokenCounts, sequences);
  const mask = optionalMask(inputs.mask, cuSeqlens[sequences]);
  const { array, own } = gradientArray(options.gradient, cuSeqlens[sequences], inputs);
  yield* readAll(yield* backwardTask(gradScores, counts, cuSeqlens, mask, array));
  return { gradLogProbs: own };
}

/**
 * The log-likelihood score of ConSPO and DisCO: `scores[i] = sum_t m_t * logProbs[t] / max(n_i, 1)`.
 *
 * @example
 * ```ts
 * import { sequenceLogProbs } from 'rlvr-kernels';
 *
 * const { scores, tokenCounts } = await sequenceLogProbs({
 *   logProbs: Float32Array.of(-0.1, -0.5, -0.9, -8), // [T]
 *   cuSeqlens: Int32Array.of(0, 1, 4),
 *   mask: Uint8Array.of(1, 1, 1, 0), // [T] the last token does not count
 * });
 * console.log(scores, tokenCounts); // => Float64Array(2) [ -0.1, -0.7 ] Float64Array(2) [ 1, 2 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function sequenceLogProbs(
  inputs: SequenceLogProbsInputs,
  options?: AsyncOptions,
): Promise<SequenceLogProbs> {
  const own = forwardOptions.async(options);
  return runAsync(forwardOp, takeFields('inputs', inputs), own);
}

/** {@link sequenceLogProbs}, blocking. */
export function sequenceLogProbsSync(inputs: SequenceLogProbsInputs, options?: BackendOptions): SequenceLogProbs {
  const own = forwardOptions.sync(options);
  return runSync(forwardOp, takeFields('inputs', inputs), own);
}

/**
 * `gradLogProbs[t] = gradScores[i] * m_t / max(n_i, 1)` for every token t of sequence i, [T].
 *
 * @example
 * ```ts
 * import { sequenceLogProbsBackward } from 'rlvr-kernels';
 *
 * const { gradLogProbs } = await sequenceLogProbsBackward({
 *   gradScores: Float64Array.of(2, -2), // [N] dL/dscores
 *   tokenCounts: Float64Array.of(1, 2), // [N] from the forward pass
 *   cuSeqlens: Int32Array.of(0, 1, 3),
 * });
 * console.log(gradLogProbs); // => Float64Array(3) [ 2, -1, -1 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_ABORTED`.
 */
export async function sequenceLogProbsBackward(
  inputs: SequenceLogProbsBackwardInputs,
  options?: LogProbGradientOptions & AsyncOptions,
): Promise<{ gradLogProbs: Float64Array }> {
  const own = backwardOptions.async(options);
  return runAsync(backwardOp, takeFields('inputs', inputs), own);
}

/** {@link sequenceLogProbsBackward}, blocking. */
export function sequenceLogProbsBackwardSync(
  inputs: SequenceLogProbsBackwardInputs,
  options?: LogProbGradientOptions,
): { gradLogProbs: Float64Array } {
  const own = backwardOptions.sync(options);
  return runSync(backwardOp, takeFields('inputs', inputs), own);
}
