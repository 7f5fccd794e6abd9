import { outputArray } from '../backend/outputs.js';
import { badArgument, type RlvrError } from '../errors.js';
import type { LikeTensor } from '../host-tensor.js';
import type { DeviceMemory, TokenTerms } from '../kernels.js';
import { type GradientOption, gradientView, type Logits, type LogitsView } from '../logits.js';
import { newArray } from '../memory.js';
import { takeFields } from '../options.js';
import {
  type AsyncOptions,
  type BackendOptions,
  kernel,
  type MaybePending,
  optionsOf,
  type Pending,
  pending,
  read,
  readAll,
  runAsync,
  runSync,
  type Task,
} from '../run/task.js';
import { findIndex, type Sliced, slices } from '../slices.js';
import { type KeptVocabulary, type Rows, tokenRows } from '../token-rows.js';
import { type FloatArray, finiteFloats, ifGiven, oneOf } from '../validate.js';

/** Inputs of {@link tokenLogProbs}. */
export interface TokenLogProbsInputs extends KeptVocabulary {
  /** [T, V] unscaled logits; row t scores `targets[t]`. `-Infinity` marks a banned token. */
  logits: Logits;
  /** [T] sampled token ids, `0 <= id < V`. */
  targets: Int32Array | BigInt64Array;
  /** [T]; 0 drops a token: its row is never read and its outputs are 0. */
  mask?: Uint8Array | undefined;
}

/** What to do with rows that hold NaN or `+Infinity`, only `-Infinity`, or `-Infinity` at their target. */
export type NonFiniteRule = 'error' | 'skip';

/** Options of {@link tokenLogProbs}. */
export interface TokenLogProbsOptions extends BackendOptions {
  /** Sampling temperature, > 0: the logits are divided by it. Default 1. */
  temperature?: number | undefined;
  /** Also compute the entropy of every row, in the same read. Default false. */
  entropy?: boolean | undefined;
  /** Default `'error'`: throw, naming the first such row. `'skip'` drops such tokens like a mask. */
  onNonFinite?: NonFiniteRule | undefined;
}

/** Result of {@link tokenLogProbs}. Masked and skipped tokens hold 0. */
export interface TokenLogProbs {
  /** [T] natural log of the probability of each target. */
  logProbs: Float64Array;
  /** [T] logsumexp of the scaled logits: what the backward pass needs of a row. */
  logSumExp: Float64Array;
  /** [T] entropy in nats; only when asked for. */
  entropy?: Float64Array;
  /** [T] the mask for the next levels: the given one, without skipped tokens. */
  mask?: Uint8Array | undefined;
  /** Tokens dropped by `onNonFinite: 'skip'`. */
  nonFiniteTokens: number;
}

/** Inputs of {@link tokenLogProbsBackward}. */
export interface TokenLogProbsBackwardInputs<L extends Logits = Logits> extends KeptVocabulary {
  /** [T, V] the logits of the forward pass. */
  logits: L;
  /** [T] */
  targets: Int32Array | BigInt64Array;
  /** [T] from the forward pass. */
  logSumExp: FloatArray;
  /** [T] dL/dlogProbs. Rows where it is 0 get a zero gradient without being read. */
  gradLogProbs: FloatArray;
  /** [T] from the forward pass; needed with `gradEntropy`. */
  entropy?: FloatArray | undefined;
  /** [T] dL/dentropy. */
  gradEntropy?: FloatArray | undefined;
  /** [T]; 0 gives a zero row. */
  mask?: Uint8Array | undefined;
}

/** Options of {@link tokenLogProbsBackward}. */
export interface TokenLogProbsBackwardOptions<L extends Logits = Logits> extends BackendOptions {
  /** As in the forward pass. Default 1. */
  temperature?: number | undefined;
  /** Default `'new'`; `'in-place'` overwrites the logits; `{ out }` writes there, and must share no memory with another input. */
  gradient?: 'new' | 'in-place' | { out: L } | undefined;
}

/** Rows with the mask of a forward pass, which may have dropped more of them. */
interface KernelRows extends Omit<Rows, 'mask'> {
  mask: MaybePending<Uint8Array> | undefined;
}

/** To be spread last: V8 takes microseconds for each literal that goes on after a spread. */
function kernelRows({ view, targets, mask, replay, temperature }: KernelRows) {
  const { data: logits, dtype, tokens, vocab, rowStride } = view;
  const [keptIds, cuKept] = [replay?.keptIds, replay?.cuKept];
  return { logits, dtype, tokens, vocab, rowStride, targets, mask, keptIds, cuKept, temperature };
}

/** What the forward pass leaves. */
export interface ForwardArrays {
  logProbs: Pending<Float64Array>; // [T]
  logSumExp: Pending<Float64Array>; // [T]
  entropy: Pending<Float64Array> | undefined; // [T]
  kept: Pending<Uint8Array>; // [T]: the mask to go on with
  nonFinite: Pending<Int32Array>; // [1]: how many rows that left out
}

export function forwardOutputs(tokens: number, entropy: boolean) {
  return {
    logProbs: outputArray('logProbs', tokens),
    logSumExp: outputArray('logSumExp', tokens),
    entropy: entropy ? outputArray('entropy', tokens) : undefined,
    kept: newArray('mask', Uint8Array, tokens),
    nonFinite: new Int32Array(1),
  };
}

/** The forward pass on validated rows. */
export function* forwardTask(rows: Rows, entropy: boolean): Task<ForwardArrays> {
  const outputs = forwardOutputs(rows.view.tokens, entropy);
  yield kernel('tokenLogProbsForward', { ...outputs, ...kernelRows(rows) });
  return pending(outputs);
}

/** Both passes in one: the gradient of `terms`, or `onehot - p` to be scaled later. */
export function* onePassTask(
  rows: Rows,
  entropy: boolean,
  gradient: LogitsView,
  terms: TokenTerms<Pending<Float64Array>> | undefined,
): Task<ForwardArrays & BackwardArrays> {
  const outputs = forwardOutputs(rows.view.tokens, entropy);
  const { data: gradLogits, rowStride: gradRowStride } = gradient;
  const badRows = newArray('badRows', Int32Array, 2).fill(-1);
  const gradLogProbs = outputArray('gradLogProbs', rows.view.tokens);
  const written = { terms: terms as TokenTerms | undefined, gradLogProbs, gradLogits, gradRowStride, badRows };
  yield kernel('tokenLogProbsOnePass', { ...outputs, ...written, ...kernelRows(rows) });
  return pending({ ...outputs, gradLogits, badRows });
}

/** Rows whose scale is 0 become 0: their p may be anything. */
export function* zeroRowsTask(gradient: LogitsView, rowScale: MaybePending<Float64Array>): Task<void> {
  const { data: gradLogits, dtype, tokens, vocab, rowStride: gradRowStride } = gradient;
  yield kernel('zeroRows', { gradLogits, dtype, tokens, vocab, gradRowStride, rowScale });
}

/** Throws if `count` rows of `argument` were not finite and that is an error. */
export function* checkFinite(
  { mask }: Pick<Rows, 'mask'>,
  count: number,
  kept: MaybePending<Uint8Array>,
  rule: NonFiniteRule,
  argument = 'logits',
): Task<void> {
  if (count === 0 || rule === 'skip') return;
  const [keeps] = yield* read(kept);
  const first = yield* findIndex(keeps.length, (t) => keeps[t] === 0 && mask?.[t] !== 0);
  throw nonFiniteError(argument, 'row', first, count);
}

export function nonFiniteError(argument: string, unit: string, first: number, count: number): RlvrError {
  const expected = `log-probs that are finite (or onNonFinite: 'skip')`;
  return badArgument(
    'ERR_NONFINITE',
    argument,
    expected,
    `${count} non-finite ${unit}(s), the first at ${unit} ${first}`,
  );
}

/** What the backward pass leaves. */
export interface BackwardArrays {
  gradLogits: Pending<Float32Array> | Pending<Uint16Array> | DeviceMemory;
  badRows: Pending<Int32Array>; // [2], for checkGradient
}

/** The backward pass on validated rows, into `gradient`; with `halt`, only if that holds 0. */
export function* backwardTask(
  rows: KernelRows,
  gradient: LogitsView,
  upstream: {
    logSumExp: MaybePending<Float64Array>;
    gradLogProbs: MaybePending<Float64Array>;
    entropy: MaybePending<Float64Array> | undefined;
    gradEntropy: MaybePending<Float64Array> | undefined;
    halt?: MaybePending<Int32Array> | undefined;
    deferred?: boolean;
    watch: boolean;
  },
): Task<BackwardArrays> {
  const gradLogits = gradient.data;
  const badRows = newArray('badRows', Int32Array, 2).fill(-1);
  const args = {
    logSumExp: upstream.logSumExp,
    gradLogProbs: upstream.gradLogProbs,
    entropy: upstream.gradEntropy && upstream.entropy,
    gradEntropy: upstream.gradEntropy,
    halt: upstream.halt,
    deferred: upstream.deferred === true,
    watch: upstream.watch,
    gradLogits,
    gradRowStride: gradient.rowStride,
    badRows,
    ...kernelRows(rows),
  };
  yield kernel('tokenLogProbsBackward', args);
  return pending({ gradLogits, badRows });
}

/** Throws if the gradient of some row is not finite, naming the first; `causes` says what else than the logits it may be. */
export function checkGradient([fromUpstream, asWritten]: Int32Array, argument: string, causes: string): void {
  if (fromUpstream < 0 && asWritten < 0) return;
  const got =
    fromUpstream < 0
      ? `another at row ${asWritten}: its logits are not finite, or ${causes}`
      : `one beyond float32 at row ${fromUpstream}: ${causes}`;
  throw badArgument('ERR_NONFINITE', argument, 'a finite gradient of every logit', got);
}

export function nonFiniteRule(value: unknown): NonFiniteRule {
  return oneOf('onNonFinite', value ?? 'error', ['error', 'skip']);
}

const forwardOptions = optionsOf<TokenLogProbsOptions>('tokenLogProbs', {
  temperature: true,
  entropy: true,
  onNonFinite: true,
});
const backwardOptions = optionsOf<TokenLogProbsBackwardOptions>('tokenLogProbsBackward', {
  temperature: true,
  gradient: { out: true },
});

function* forwardOp(
  inputs: TokenLogProbsInputs,
  { temperature, entropy, onNonFinite }: Partial<TokenLogProbsOptions>,
): Task<TokenLogProbs> {
  const rows = yield* tokenRows(inputs, temperature);
  const rule = nonFiniteRule(onNonFinite);
  return yield* forwardResult(yield* forwardTask(rows, entropy === true), rows, rule);
}

/** What the forward pass left, as a user gets it; throws for rows of `argument` that are not finite if that is an error. */
export function* forwardResult(
  arrays: ForwardArrays,
  rows: Pick<Rows, 'mask'>,
  rule: NonFiniteRule,
  argument?: string,
): Task<TokenLogProbs> {
  const [logProbs, logSumExp, entropies, nonFinite, kept] = yield* read(
    arrays.logProbs,
    arrays.logSumExp,
    arrays.entropy,
    arrays.nonFinite,
    rule === 'skip' ? arrays.kept : undefined,
  );
  const [nonFiniteTokens] = nonFinite;
  yield* checkFinite(rows, nonFiniteTokens, arrays.kept, rule, argument);
  const mask = nonFiniteTokens > 0 ? kept : rows.mask;
  if (nonFiniteTokens > 0) yield* clearDropped(logSumExp, kept!);
  return { logProbs, logSumExp, mask, nonFiniteTokens, ...(entropies && { entropy: entropies }) };
}

/** Kernels say of rows that are -inf throughout that they are. */
function* clearDropped(logSumExp: Float64Array, kept: Uint8Array): Sliced<void> {
  yield* slices(kept.length, (begin, end) => {
    for (let t = begin; t < end; t++) if (kept[t] === 0) logSumExp[t] = 0;
  });
}

/** What the backward pass takes from the forward pass, and from the loss. */
export function* upstreamFloats(inputs: Omit<TokenLogProbsBackwardInputs, keyof TokenLogProbsInputs>, tokens: number) {
  const perToken = 'T, one value per token';
  return {
    logSumExp: yield* finiteFloats('logSumExp', inputs.logSumExp, tokens, perToken),
    gradLogProbs: yield* finiteFloats('gradLogProbs', inputs.gradLogProbs, tokens, perToken),
    gradEntropy: yield* ifGiven(inputs.gradEntropy, (grad) => finiteFloats('gradEntropy', grad, tokens, perToken)),
    entropy: yield* ifGiven(inputs.gradEntropy, () => finiteFloats('entropy', inputs.entropy, tokens, perToken)),
  };
}

function* backwardOp<L extends Logits>(
  inputs: TokenLogProbsBackwardInputs<L>,
  { temperature, gradient = 'new' }: Partial<TokenLogProbsBackwardOptions>,
): Task<{ gradLogits: LikeTensor<L> }> {
  const rows = yield* tokenRows(inputs, temperature);
  const upstream = { ...(yield* upstreamFloats(inputs, rows.view.tokens)), watch: true };
  const target = gradientView(rows.view, gradient as GradientOption<Logits>, inputs);
  if (!target) throw badArgument('ERR_RANGE', 'gradient', "'new', 'in-place' or { out }", "'none'");
  const written = yield* backwardTask(rows, target, upstream);
  const [badRows] = yield* read(written.badRows); // before the gradient: where a device wrote none there is none to read
  checkGradient(badRows, 'logits', 'logSumExp is not theirs, or gradLogProbs or gradEntropy are too large');
  yield* readAll({ gradLogits: written.gradLogits });
  return { gradLogits: target.source as LikeTensor<L> };
}

/**
 * Log-prob of each sampled token, logsumexp and (on request) entropy of its row, from one read of the logits.
 *
 * With z = logits / temperature: `logProbs[t] = z[t, targets[t]] - logSumExp[t]`, `logSumExp[t] = log sum_v exp z[t, v]`.
 *
 * The entropy is `H[t] = logSumExp[t] - sum_v p_v z[t, v]`, in nats.
 *
 * @example
 * ```ts
 * import { tokenLogProbs } from 'rlvr-kernels';
 *
 * const { logProbs, logSumExp, entropy } = await tokenLogProbs(
 *   {
 *     logits: Float32Array.of(0, 0, 0, 2, 0, -Infinity), // [T, V] = [2, 3]; -Infinity bans a token
 *     targets: Int32Array.of(1, 0), // [T]
 *   },
 *   { entropy: true },
 * );
 * console.log(logProbs, logSumExp); // => Float64Array(2) [ -1.099, -0.127 ] Float64Array(2) [ 1.099, 2.127 ]
 * console.log(entropy); // => Float64Array(2) [ 1.099, 0.365 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE` for bad arguments; `ERR_NONFINITE` naming the first row without
 * a finite log-prob, unless `onNonFinite` is `'skip'`; `ERR_ABORTED`.
 */
export async function tokenLogProbs(
  inputs: TokenLogProbsInputs,
  options?: TokenLogProbsOptions & AsyncOptions,
): Promise<TokenLogProbs> {
  const own = forwardOptions.async(options);
  return runAsync(forwardOp, takeFields('inputs', inputs), own);
}

/** {@link tokenLogProbs}, blocking. */
export function tokenLogProbsSync(inputs: TokenLogProbsInputs, options?: TokenLogProbsOptions): TokenLogProbs {
  const own = forwardOptions.sync(options);
  return runSync(forwardOp, takeFields('inputs', inputs), own);
}

/**
 * Gradient of a loss to the logits from its gradients to log-probs (and entropies):
 * `gradLogits[t, v] = (g_t * ([v = y_t] - p_v) - h_t * p_v * (log p_v + H_t)) / temperature`.
 * It comes back in the form and dtype of the logits.
 *
 * @example
 * ```ts
 * import { tokenLogProbs, tokenLogProbsBackward } from 'rlvr-kernels';
 *
 * const logits = Float32Array.of(0, 0, 0, 2, 0, 0); // [T, V] = [2, 3]
 * const targets = Int32Array.of(1, 0);
 * const { logSumExp } = await tokenLogProbs({ logits, targets });
 * const gradLogProbs = Float64Array.of(1, 0); // [T] dL/dlogProbs: the second token does not matter
 * const { gradLogits } = await tokenLogProbsBackward({ logits, targets, logSumExp, gradLogProbs });
 * console.log(gradLogits); // => Float32Array(6) [ -0.333, 0.667, -0.333, 0, 0, 0 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_NONFINITE` naming
 * the first row whose gradient is not finite, for its logits or for the rest: such logits are found as the gradient is written,
 * and what its memory holds is then unspecified. `ERR_ABORTED`.
 */
export async function tokenLogProbsBackward<L extends Logits>(
  inputs: TokenLogProbsBackwardInputs<L>,
  options?: TokenLogProbsBackwardOptions<L> & AsyncOptions,
): Promise<{ gradLogits: LikeTensor<L> }> {
  const own = backwardOptions.async(options);
  return runAsync(backwardOp, takeFields('inputs', inputs), own);
}

/** {@link tokenLogProbsBackward}, blocking. */
export function tokenLogProbsBackwardSync<L extends Logits>(
  inputs: TokenLogProbsBackwardInputs<L>,
  options?: TokenLogProbsBackwardOptions<L>,
): { gradLogits: LikeTensor<L> } {
  const own = backwardOptions.sync(options);
  return runSync(backwardOp, takeFields('inputs', inputs), own);
}
