import { checkApart, type Extent, overlap } from '../backend/extents.js';
import { badArgument, type RlvrError } from '../errors.js';
import type { GradientArgument, HostArray, MatrixArgument } from '../kernels.js';
import {
  type Chunks,
  DEFAULT_CHUNK_BYTES,
  keptArrays,
  LAYER_PLACES,
  type Layer,
  type LayerPlaces,
  type LinearGradients,
  layerOf,
} from '../layer.js';
import { type GradientView, type Matrix, type MatrixView, matrixExtent, matrixGradient } from '../matrices.js';
import { newArray } from '../memory.js';
import { takeFields } from '../options.js';
import { callersArray } from '../run/own-memory.js';
import {
  type AsyncOptions,
  type BackendOptions,
  kernel,
  type MaybePending,
  optionsOf,
  type Pending,
  pending,
  read,
  runAsync,
  runSync,
  type Task,
} from '../run/task.js';
import type { Sliced } from '../slices.js';
import { checkNoReplay, type FindTargets, type KeptVocabulary, temperatureOption } from '../token-rows.js';
import { type FloatArray, ID_ARRAYS, optionalMask, targetIds, typedArray } from '../validate.js';
import {
  checkFinite,
  type ForwardArrays,
  forwardOutputs,
  forwardResult,
  type NonFiniteRule,
  nonFiniteRule,
  type TokenLogProbs,
  upstreamFloats,
} from './token-log-probs.js';

/** Inputs of {@link linearLogProbs}. Matrices may be f32, bf16 or f16, each as it likes. */
export interface LinearLogProbsInputs {
  /** [T, d] hidden states, what the last layer (lm_head) is given; row t scores `targets[t]`. */
  hidden: Matrix;
  /** [V, d] the weight of that layer: `logits = hidden . weight^T + bias`. */
  weight: Matrix;
  /** [V] its bias, or a tensor of shape [1, V]. `-Infinity` bans a token. */
  bias?: Matrix | undefined;
  /** [T] sampled token ids, `0 <= id < V`. */
  targets: Int32Array | BigInt64Array;
  /** [T]; 0 drops a token: its hidden state is never read and its outputs are 0. */
  mask?: Uint8Array | undefined;
}

/** Options of {@link linearLogProbs}. */
export interface LinearLogProbsOptions extends BackendOptions {
  /** Sampling temperature, > 0: the logits are divided by it. Default 1. */
  temperature?: number | undefined;
  /** Also compute the entropy of every row. Default false. */
  entropy?: boolean | undefined;
  /** Default `'error'`: throw, naming the first row whose logits are not finite. `'skip'` drops such tokens like a mask. */
  onNonFinite?: NonFiniteRule | undefined;
}

/** Inputs of {@link linearLogProbsBackward}. */
export interface LinearLogProbsBackwardInputs extends LinearLogProbsInputs {
  /** [T] from the forward pass. */
  logSumExp: FloatArray;
  /** [T] dL/dlogProbs. Rows where it is 0 take no part. */
  gradLogProbs: FloatArray;
  /** [T] from the forward pass; needed with `gradEntropy`. */
  entropy?: FloatArray | undefined;
  /** [T] dL/dentropy. */
  gradEntropy?: FloatArray | undefined;
}

/** Options of {@link linearLogProbsBackward}. No gradient may share memory with an input, or with another gradient. */
export interface LinearLogProbsBackwardOptions extends BackendOptions, LayerPlaces {
  /** As in the forward pass. Default 1. */
  temperature?: number | undefined;
}

/** Checked rows. */
export interface LinearRows extends Layer {
  targets: Int32Array;
  mask: Uint8Array | undefined;
  temperature: number;
}

/** Validates what both directions share. */
export function* linearRows(
  inputs: LinearLogProbsInputs,
  temperature: unknown,
  find: FindTargets = ({ tokens, vocab }, mask) => targetIds(inputs.targets, tokens, vocab, mask),
): Sliced<LinearRows> {
  const tokens = typedArray('targets', inputs.targets, ID_ARRAYS).length;
  const layer = layerOf(inputs, tokens);
  checkNoReplay(inputs as KeptVocabulary, 'hidden states');
  const mask = optionalMask(inputs.mask, tokens);
  const targets = yield* find({ tokens, vocab: layer.weight.rows }, mask);
  return { ...layer, targets, mask, temperature: temperatureOption(temperature) };
}

/** Rows with the mask of a forward pass, which may have dropped more of them. */
interface KernelRows extends Omit<LinearRows, 'mask'> {
  mask: MaybePending<Uint8Array> | undefined;
}

function matrixArgument({ data, dtype, rowStride }: MatrixView): MatrixArgument {
  return { data, dtype, rowStride };
}

function gradientArgument(view: GradientView | undefined): GradientArgument | undefined {
  return view && { ...matrixArgument(view), accumulate: view.accumulate };
}

/** To be spread last, as those of logits. */
function kernelRows({ hidden, weight, bias, targets, mask, temperature }: KernelRows) {
  return {
    hidden: matrixArgument(hidden),
    weight: matrixArgument(weight),
    bias: bias && matrixArgument(bias),
    tokens: hidden.rows,
    vocab: weight.rows,
    width: weight.width,
    targets,
    mask,
    temperature,
  };
}

const forwardOptions = optionsOf<LinearLogProbsOptions>('linearLogProbs', {
  temperature: true,
  entropy: true,
  onNonFinite: true,
});
const backwardOptions = optionsOf<LinearLogProbsBackwardOptions>('linearLogProbsBackward', {
  temperature: true,
  ...LAYER_PLACES,
});

/** Logits that a forward pass leaves to a backward pass, which need not compute them again. */
export interface KeptLogits {
  keptLogits: Pending<Float32Array> | undefined; // some columns of the rows that the mask leaves; on CUDA they stay on the device
  keptRows: Pending<Int32Array>; // [T] which of those rows is row t
}

/** What the forward pass leaves. */
export interface LinearForwardArrays extends ForwardArrays {
  logits: KeptLogits | undefined;
}

/** The forward pass on validated rows; it may keep up to `chunkBytes` of the logits. */
export function* forwardTask(rows: LinearRows, entropy: boolean, chunks: Chunks): Task<LinearForwardArrays> {
  const outputs = forwardOutputs(rows.hidden.rows, entropy);
  const kept = keptArrays(rows, rows.mask, chunks);
  const args = { keptLogits: undefined, keptRows: undefined, ...kept, chunkBytes: chunks.chunkBytes };
  yield kernel('linearLogProbsForward', { ...outputs, ...args, ...kernelRows(rows) });
  return { ...pending(outputs), logits: kept && pending(kept) };
}

/** Throws if the forward pass could not do its work, or if rows were not finite and that is an error. */
export function* checkForward(
  rows: LinearRows,
  count: number,
  kept: MaybePending<Uint8Array>,
  rule: NonFiniteRule,
): Task<void> {
  if (count < 0) throw noMemory(rows);
  yield* checkFinite(rows, count, kept, rule, 'hidden');
}

function* forwardOp(
  inputs: LinearLogProbsInputs,
  { temperature, entropy, onNonFinite }: Partial<LinearLogProbsOptions>,
): Task<TokenLogProbs> {
  const rows = yield* linearRows(inputs, temperature);
  const rule = nonFiniteRule(onNonFinite);
  const arrays = yield* forwardTask(rows, entropy === true, { chunkBytes: DEFAULT_CHUNK_BYTES });
  const [nonFinite] = yield* read(arrays.nonFinite);
  yield* checkForward(rows, nonFinite[0], arrays.kept, rule);
  return yield* forwardResult(arrays, rows, rule, 'hidden');
}

/** Where each gradient goes. */
export type LinearGradientViews = Partial<Record<'gradHidden' | 'gradWeight' | 'gradBias', GradientView>>;

/** Where the gradients go, apart from the inputs and from each other. */
export function linearGradientViews(
  inputs: object,
  rows: Layer,
  { gradHidden = 'new', gradWeight = 'new', gradBias = rows.bias ? 'new' : 'none' }: LayerPlaces,
): LinearGradientViews {
  if (!rows.bias && gradBias !== 'none') {
    throw badArgument('ERR_RANGE', 'gradBias', "'none', as there is no bias", 'another option');
  }
  const views = {
    gradHidden: matrixGradient('gradHidden', gradHidden, 'hidden', rows.hidden, '[T, d]'),
    gradWeight: matrixGradient('gradWeight', gradWeight, 'weight', rows.weight, '[V, d]'),
    gradBias: rows.bias && matrixGradient('gradBias', gradBias, 'bias', rows.bias, '[1, V]'),
  };
  checkAllApart(views, inputs, rows);
  return views;
}

/** Of a copy, what counts is where it is written to in the end. */
function checkAllApart(views: LinearGradientViews, inputs: object, { hidden, weight, bias }: Layer): void {
  const extents: [name: string, extent: Extent][] = [];
  const matrices = { hidden, weight, ...(bias && { bias }) };
  for (const [name, view] of Object.entries(matrices)) extents.push([name, matrixExtent(view)]);
  for (const [name, view] of Object.entries(views)) {
    if (!view) continue;
    const extent = matrixExtent(view, callersArray(view.source));
    const other = extents.find(([, taken]) => overlap(extent, taken));
    if (other) throw badArgument('ERR_RANGE', name, `memory apart from ${other[0]}`, 'an overlap');
    checkApart(name, extent, inputs, Object.keys(matrices));
    extents.push([name, extent]);
  }
}

/** What the backward pass takes from the forward pass, and from the loss. */
interface LinearUpstream {
  logSumExp: MaybePending<Float64Array>;
  gradLogProbs: MaybePending<Float64Array>;
  entropy: MaybePending<Float64Array> | undefined;
  gradEntropy: MaybePending<Float64Array> | undefined;
}

/** The backward pass on validated rows; read what it returns for checkLinearGradients. */
export function* backwardTask(
  rows: KernelRows,
  views: LinearGradientViews,
  upstream: LinearUpstream,
  kept: KeptLogits | undefined,
  chunkBytes: number,
): Task<Pending<Int32Array>> {
  const badRows = newArray('badRows', Int32Array, 4).fill(-1);
  const { keptLogits, keptRows } = kept ?? {};
  yield kernel('linearLogProbsBackward', {
    ...upstream,
    gradHidden: gradientArgument(views.gradHidden),
    gradWeight: gradientArgument(views.gradWeight),
    gradBias: gradientArgument(views.gradBias),
    badRows,
    keptLogits,
    keptRows,
    chunkBytes,
    ...kernelRows(rows),
  });
  return pending({ badRows }).badRows;
}

/** The gradients in host memory, to be read once the backward pass has gone well. */
export function hostGradients(views: LinearGradientViews): HostArray[] {
  return Object.values(views).flatMap((view) => (view && ArrayBuffer.isView(view.data) ? [view.data] : []));
}

/** The gradients that are wanted, as the caller has them. */
export function gradientsIn(views: LinearGradientViews): { [K in keyof LinearGradientViews]: Matrix } {
  const wanted = Object.entries(views).filter(([, view]) => view !== undefined);
  return Object.fromEntries(wanted.map(([name, view]) => [name, view.source]));
}

function* backwardOp(
  inputs: LinearLogProbsBackwardInputs,
  options: Partial<LinearLogProbsBackwardOptions>,
): Task<ReturnType<typeof gradientsIn>> {
  const rows = yield* linearRows(inputs, options.temperature);
  const upstream = yield* upstreamFloats(inputs, rows.hidden.rows);
  const views = linearGradientViews(inputs, rows, options);
  const task = backwardTask(rows, views, upstream, undefined, DEFAULT_CHUNK_BYTES);
  const [badRows] = yield* read(yield* task);
  checkLinearGradients(badRows, rows, 'gradLogProbs', 'gradLogProbs or gradEntropy are too large');
  yield* read(hostGradients(views));
  return gradientsIn(views);
}

/** What a kernel without memory to work in left is unspecified. */
function noMemory({ hidden: { rows, width } }: Layer): RlvrError {
  return badArgument('ERR_RANGE', 'hidden', 'a size for which there is memory to work in', `[${rows}, ${width}]`);
}

/**
 * Throws if a gradient is not finite, naming its first row; `argument` and `causes` are of the upstream gradient, where that is
 * to blame.
 */
export function checkLinearGradients(
  [fromUpstream, ...written]: Int32Array,
  rows: Layer,
  argument: string,
  causes: string,
): void {
  if (fromUpstream < -1) throw noMemory(rows);
  if (fromUpstream >= 0) {
    const got = `one beyond float32 at row ${fromUpstream}: ${causes}`;
    throw badArgument('ERR_NONFINITE', argument, 'a finite gradient of every logit', got);
  }
  const of = written.findIndex((row) => row >= 0);
  if (of < 0) return;
  const others = 'an input is not finite, logSumExp is not theirs, or its dtype has no numbers so large';
  const name = ['gradHidden', 'gradWeight', 'gradBias'][of];
  throw badArgument('ERR_NONFINITE', name, 'a finite gradient', `another at row ${written[of]}: ${others}`);
}

/**
 * Log-prob of each sampled token, logsumexp and (on request) entropy, as {@link tokenLogProbs} has them, from hidden states and the
 * weight of the last layer: `logits = hidden . weight^T + bias`, [T, V], is computed in pieces and never held as a whole.
 *
 * V and d are known from any tensor, or from the lengths of plain arrays and T. Runs on the processor: in a `DeviceTensor`, or with
 * `backend: 'cuda'`, hidden states are refused for now.
 *
 * @example
 * ```ts
 * import { linearLogProbs } from 'rlvr-kernels';
 *
 * const { logProbs, logSumExp } = await linearLogProbs({
 *   hidden: Float32Array.of(1, 0, 0, 2), // [T, d] = [2, 2]
 *   weight: Float32Array.of(1, 0, 0, 1, 1, 1), // [V, d] = [3, 2]
 *   bias: Float32Array.of(0, 0, -1), // [V]
 *   targets: Int32Array.of(0, 1), // [T]
 * });
 * console.log(logProbs, logSumExp); // => Float64Array(2) [ -0.551, -0.408 ] Float64Array(2) [ 1.551, 2.408 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE` for bad arguments; `ERR_BACKEND` for CUDA without cuBLASLt; `ERR_NONFINITE`
 * naming the first row of `hidden` without a finite log-prob, unless `onNonFinite` is `'skip'`; `ERR_ABORTED`.
 */
export async function linearLogProbs(
  inputs: LinearLogProbsInputs,
  options?: LinearLogProbsOptions & AsyncOptions,
): Promise<TokenLogProbs> {
  const own = forwardOptions.async(options);
  return runAsync(forwardOp, takeFields('inputs', inputs), own);
}

/** {@link linearLogProbs}, blocking. */
export function linearLogProbsSync(inputs: LinearLogProbsInputs, options?: LinearLogProbsOptions): TokenLogProbs {
  const own = forwardOptions.sync(options);
  return runSync(forwardOp, takeFields('inputs', inputs), own);
}

/**
 * Gradients of a loss to the hidden states, the weight and the bias from its gradients to log-probs (and entropies). With
 * D = dL/dlogits as {@link tokenLogProbsBackward} has it: `gradHidden = D . weight`, `gradWeight = D^T . hidden`, `gradBias` the sum of
 * the rows of D. The logits are computed again in pieces. Rows that are masked, or whose gradients are 0, take no part.
 *
 * Each gradient is `'new'`, `'none'`, `{ out }`, which is overwritten, or `{ accumulate }`, which is added to: for micro-batches, or
 * a weight that is the embedding's too. Both take any form and dtype, such as float32 for the gradient of a bf16 weight.
 *
 * @example
 * ```ts
 * import { linearLogProbs, linearLogProbsBackward } from 'rlvr-kernels';
 *
 * const layer = {
 *   hidden: Float32Array.of(1, 0, 0, 2), // [T, d] = [2, 2]
 *   weight: Float32Array.of(0, 0, 0, 0, 0, 0), // [V, d] = [3, 2]
 *   targets: Int32Array.of(0, 1), // [T]
 * };
 * const sum = new Float32Array(6); // of the gradients of all micro-batches
 * const { logSumExp } = await linearLogProbs(layer);
 * const { gradHidden } = await linearLogProbsBackward(
 *   { ...layer, logSumExp, gradLogProbs: Float64Array.of(1, 3) }, // [T] dL/dlogProbs
 *   { gradWeight: { accumulate: sum } },
 * );
 * console.log(gradHidden); // => Float32Array(4) [ 0, 0, 0, 0 ]
 * console.log(sum); // => Float32Array(6) [ 0.667, -2, -0.333, 4, -0.333, -2 ]
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE`, `ERR_RANGE`, `ERR_NONFINITE`, `ERR_OPTION` for bad arguments; `ERR_BACKEND` for CUDA
 * without cuBLASLt; `ERR_NONFINITE` naming the first row of a gradient that is not finite: that is found as it is written, and what the
 * memory of all gradients holds is then unspecified, sums included. `ERR_ABORTED`.
 */
export async function linearLogProbsBackward<
  I extends LinearLogProbsBackwardInputs,
  const O extends LinearLogProbsBackwardOptions = object,
>(inputs: I, options?: O & AsyncOptions): Promise<LinearGradients<I, O>> {
  const own = backwardOptions.async(options);
  return runAsync(backwardOp, takeFields('inputs', inputs), own) as Promise<LinearGradients<I, O>>;
}

/** {@link linearLogProbsBackward}, blocking. */
export function linearLogProbsBackwardSync<
  I extends LinearLogProbsBackwardInputs,
  const O extends LinearLogProbsBackwardOptions = object,
>(inputs: I, options?: O): LinearGradients<I, O> {
  const own = backwardOptions.sync(options);
  return runSync(backwardOp, takeFields('inputs', inputs), own) as LinearGradients<I, O>;
}
