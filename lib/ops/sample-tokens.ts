import { outputArray } from '../backend/outputs.js';
import { badArgument, describe } from '../errors.js';
import { type Logits, type LogitsView, rowsView } from '../logits.js';
import { newArray } from '../memory.js';
import { takeFields } from '../options.js';
import {
  type AsyncOptions,
  type BackendOptions,
  kernel,
  optionsOf,
  pending,
  read,
  runAsync,
  runSync,
  type Task,
} from '../run/task.js';
import { type Sliced, slices } from '../slices.js';
import { temperatureOption } from '../token-rows.js';
import { finiteNumber, optional } from '../validate.js';

/** Inputs of {@link sampleTokens}. */
export interface SampleTokensInputs {
  /** [T, V] unscaled logits, a row for each token to draw. `-Infinity` bans an id. */
  logits: Logits;
  /** V, the ids of a row; needed where `logits` is an array without a shape. */
  vocab?: number | undefined;
}

/** Options of {@link sampleTokens}. */
export interface SampleTokensOptions extends BackendOptions {
  /** Decides the draws, a whole number in [0, 2^53). The same seed and `offset` give the same ids, on any number of threads. */
  seed: number;
  /** How many rows were drawn with this seed before: row t is draw `offset + t`, a whole number. Default 0. */
  offset?: number | undefined;
  /** Sampling temperature: the logits are divided by it. 0 takes the likeliest id, the lowest of equal ones. Default 1. */
  temperature?: number | undefined;
  /** Draw from so many of the likeliest ids, at least 1. Default: all. */
  topK?: number | undefined;
  /** Draw from the fewest of the likeliest ids that have this share of the mass that `topK` leaves, in (0, 1]. Default 1: all. */
  topP?: number | undefined;
  /** Draw from ids that are at least this times as likely as the likeliest one, in [0, 1]. Default 0: all. */
  minP?: number | undefined;
  /** Also return what the filters kept, as batches take it. Default false. */
  kept?: boolean | undefined;
}

/** Result of {@link sampleTokens}. */
export interface SampledTokens {
  /** [T] the ids drawn. */
  ids: Int32Array;
  /** [T] natural log of their probabilities, in the distribution that they were drawn from. */
  logProbs: Float64Array;
  /** [K] with `kept`: the ids kept for one row after the other, ascending for each. */
  keptIds?: Int32Array;
  /** [T + 1] with `kept`: row t keeps `keptIds[cuKept[t] ... cuKept[t + 1]]`; none: every id, as nothing was dropped. */
  cuKept?: Int32Array;
}

const LARGEST_INT32 = 2 ** 31 - 1;

const sampleOptions = optionsOf<SampleTokensOptions>('sampleTokens', {
  seed: true,
  offset: true,
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  kept: true,
});

function checkedView({ logits, vocab }: SampleTokensInputs): LogitsView {
  const range = { min: 1, max: LARGEST_INT32, integer: true };
  const view = rowsView(
    'logits',
    logits,
    optional(vocab, (value) => finiteNumber('vocab', value, range)),
  );
  if (view.vocab <= LARGEST_INT32) return view;
  throw badArgument('ERR_SHAPE', 'logits', 'rows of fewer than 2^31 ids', `${view.vocab}`);
}

/** What decides about a row's ids, as kernels take it. */
function checkedFilters({ temperature, topK, topP, minP }: Partial<SampleTokensOptions>, vocab: number) {
  const greedy = temperature === 0;
  const divisor = temperatureOption(greedy ? 1 : temperature);
  const filters = {
    temperature: divisor,
    topK: Math.min(vocab, finiteNumber('topK', topK ?? vocab, { min: topK === undefined ? 0 : 1, integer: true })),
    topP: finiteNumber('topP', topP ?? 1, { above: 0, max: 1 }),
    minDistance: divisor * Math.log(finiteNumber('minP', minP ?? 0, { min: 0, max: 1 })),
  };
  return greedy ? { ...filters, topK: 1 } : filters;
}

/** The seed, and the number of the first row's draw. */
function checkedDraws({ seed, offset }: Partial<SampleTokensOptions>, tokens: number) {
  return {
    seed: finiteNumber('seed', seed, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true }),
    offset: finiteNumber('offset', offset ?? 0, { min: 0, max: Number.MAX_SAFE_INTEGER - tokens, integer: true }),
  };
}

function keptOption(kept: unknown): boolean {
  if (kept === undefined || typeof kept === 'boolean') return kept === true;
  throw badArgument('ERR_RANGE', 'kept', 'true or false', describe(kept));
}

function* sampleOp(inputs: SampleTokensInputs, options: Partial<SampleTokensOptions>): Task<SampledTokens> {
  const { data: logits, dtype, tokens, vocab, rowStride } = checkedView(inputs);
  const rows = { logits, dtype, tokens, vocab, rowStride };
  const filters = checkedFilters(options, vocab);
  const draws = checkedDraws(options, tokens);
  const withKept = keptOption(options.kept);
  const cuts = withKept
    ? { cutLogits: outputArray('cutLogits', tokens), cutIds: newArray('cutIds', Int32Array, tokens) }
    : { cutLogits: undefined, cutIds: undefined };
  const keptCounts = withKept ? newArray('keptCounts', Int32Array, tokens) : undefined;
  const drawn = { ids: newArray('ids', Int32Array, tokens), logProbs: outputArray('logProbs', tokens) };
  yield kernel('sampleTokens', { ...drawn, ...cuts, keptCounts, ...rows, ...filters, ...draws });
  const outputs = pending({ ...drawn, keptCounts });
  const [ids, logProbs, counts] = yield* read(outputs.ids, outputs.logProbs, outputs.keptCounts);
  yield* checkIds(ids);
  if (!counts || !cuts.cutLogits) return { ids, logProbs };
  const cuKept = yield* offsetsOf(counts);
  const keptIds = newArray('keptIds', Int32Array, cuKept[tokens]);
  if (keptIds.length > 0) yield kernel('sampleTokensKept', { ...cuts, cuKept, keptIds, ...rows });
  yield* read(keptIds);
  return { ids, logProbs, keptIds, cuKept };
}

/** Throws if there is a row that nothing could be drawn from. */
function* checkIds(ids: Int32Array): Sliced<void> {
  let count = 0;
  let first = -1;
  yield* slices(ids.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      if (ids[t] >= 0) continue;
      if (count === 0) first = t;
      count++;
    }
  });
  if (count === 0) return;
  const expected = 'rows without NaN and Infinity, and with a finite logit';
  throw badArgument('ERR_NONFINITE', 'logits', expected, `${count} other row(s), the first at row ${first}`);
}

/** [T + 1] the sums of [T] counts. */
function* offsetsOf(counts: Int32Array): Sliced<Int32Array> {
  const offsets = newArray('cuKept', Int32Array, counts.length + 1);
  let sum = 0;
  yield* slices(counts.length, (begin, end) => {
    for (let t = begin; t < end; t++) {
      sum += counts[t];
      offsets[t + 1] = sum;
    }
  });
  if (sum <= LARGEST_INT32) return offsets;
  throw badArgument(
    'ERR_RANGE',
    'kept',
    'rows that keep fewer than 2^31 ids in all (filter more, or give fewer rows)',
    `${sum}`,
  );
}

/**
 * Draws a token from every row of logits, as the decoding loop of a trainer does: with its log-prob in the distribution that it was
 * drawn from, and on request with the ids that the filters kept, as every loss takes them (`keptIds`, `cuKept`).
 *
 * With z = logits / temperature and the ids in order of falling z (equal ones: rising id), a row keeps
 * - `topK`: the first k;
 * - `topP`: of those, the fewest first ones whose mass reaches that share of the mass of all of those (of one at least);
 * - `minP`: of those, the ones with a probability of at least `minP` times that of the first.
 *
 * The filters are those of HF transformers (`TopKLogitsWarper`, `TopPLogitsWarper`, `MinPLogitsWarper`), in its order. Of equal logits
 * at the edge of one the lower ids win, where transformers and vLLM keep all at that of top-k; vLLM takes min-p first.
 *
 * Row t takes one uniform number, Philox4x32-10 with the seed as key and `offset + t` as counter, and the first kept id, ascending, up to
 * which the mass of the kept ids is more than that share. So ids depend on the seed and `offset + t` only: not on threads, nor on what
 * else is in the call. Backends and processors add up masses in float32 or float64: where the number drawn, or `topP`, is
 * within rounding of an edge, they may take neighbouring ids.
 *
 * @example
 * ```ts
 * import { sampleTokens, tokenLogProbs } from 'rlvr-kernels';
 *
 * const step = Float32Array.of(0, 1, 2, 3, 2, 1, 0, 0); // [T, V] = [2, 4]: what the model says of two sequences
 * const options = { temperature: 0.8, topK: 2, seed: 7 };
 * let drawn = 0;
 * const { ids, logProbs, keptIds, cuKept } = await sampleTokens({ logits: step, vocab: 4 }, { ...options, offset: drawn, kept: true });
 * drawn += ids.length; // the offset of the next decoding step
 * console.log(ids, logProbs); // => Int32Array(2) [ 3, 0 ] Float64Array(2) [ -0.252, -0.252 ]
 * console.log(keptIds, cuKept); // => Int32Array(4) [ 2, 3, 0, 1 ] Int32Array(3) [ 0, 2, 4 ]
 * const replay = await tokenLogProbs({ logits: step, targets: ids, keptIds, cuKept }, { temperature: 0.8 });
 * console.log(replay.logProbs); // => Float64Array(2) [ -0.252, -0.252 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_OPTION` for bad arguments; `ERR_NONFINITE` naming the first row with NaN
 * or `Infinity`, or with `-Infinity` only; `ERR_ABORTED`.
 */
export async function sampleTokens(
  inputs: SampleTokensInputs,
  options: SampleTokensOptions & AsyncOptions,
): Promise<SampledTokens> {
  const own = sampleOptions.async(options);
  return runAsync(sampleOp, takeFields('inputs', inputs), own);
}

/** {@link sampleTokens}, blocking. */
export function sampleTokensSync(inputs: SampleTokensInputs, options: SampleTokensOptions): SampledTokens {
  const own = sampleOptions.sync(options);
  return runSync(sampleOp, takeFields('inputs', inputs), own);
}
