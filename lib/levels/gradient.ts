// The backward pass: from gradients of scores to those of the logits, of the hidden states and their layer, or of the log-probs,
// whichever the batch has.

import { checkApart, extentOf, overlap } from '../backend/extents.js';
import { outputArray } from '../backend/outputs.js';
import { badArgument, describe, tag } from '../errors.js';
import type { LikeTensor } from '../host-tensor.js';
import type { DeviceMemory, HostArray } from '../kernels.js';
import type { LayerPlaces, LinearGradients } from '../layer.js';
import {
  type GradientOption,
  gradientView,
  isDeferred,
  isInPlace,
  type Logits,
  type LogitsView,
  type LossGradientOption,
} from '../logits.js';
import type { Matrix } from '../matrices.js';
import { newArray } from '../memory.js';
import * as linear from '../ops/linear-log-probs.js';
import * as ratio from '../ops/ratio-scores.js';
import * as sequence from '../ops/sequence-log-probs.js';
import * as token from '../ops/token-log-probs.js';
import { finiteResults } from '../overflow.js';
import { type MaybePending, read, type Task } from '../run/task.js';
import { findIndex, mapped, type Sliced, slices } from '../slices.js';
import { allFinite, arrayOf, type FloatArray } from '../validate.js';
import type { CheckedSequences } from './batch.js';
import { heldMask } from './columns.js';
import type { ScoreChannel } from './scores.js';
import type { TokenLevel, WrittenTokenLevel } from './token-level.js';
import { checkHiddenSum, partialHidden, sumHidden } from './whole-hidden.js';

/** A score's part in a loss: dloss/dscores, of a score of the log-probs or of the entropies. */
export interface Term {
  of: 'logProbs' | 'entropy';
  channel: ScoreChannel;
  gradScores: MaybePending<Float64Array>; // [N]
}

/** dL/dscores of all terms of the log-probs (or of the entropies) to dL/d of those, [T], in `into` if that is given. */
function* tokenGradientTask(
  level: TokenLevel,
  terms: readonly Term[],
  of: Term['of'],
  into?: Float64Array,
): Task<MaybePending<Float64Array>> {
  const { tokens, cuSeqlens } = level.checked;
  const [first, ...others] = terms.filter((term) => term.of === of);
  if (!first) return into?.fill(0) ?? newArray(of, Float64Array, tokens);
  const gradient = into ?? outputArray(of, tokens);
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
  | { kind: 'logits'; view: LogitsView; deferred: boolean }
  | { kind: 'layer'; views: linear.LinearGradientViews }
  | { kind: 'logProbs'; out: ArrayOut | undefined; over: boolean }; // no `out`: a new Float64Array; `over` the log-probs

/** An array to write to: as the caller has it, and a view of our own. */
interface ArrayOut {
  own: FloatArray;
  view: FloatArray;
}

/**
 * The gradient that a batch gets: of its logits, of its hidden states and their layer as the options `Places` have it, or of its
 * log-probs.
 */
export type GradientOf<B, Places = unknown> = [B] extends [{ logits: infer L extends Logits }]
  ? { gradLogits: LikeTensor<L> }
  : [B] extends [{ hidden: Matrix }]
    ? LinearGradients<B, Places>
    : [B] extends [{ logProbs: FloatArray }]
      ? { gradLogProbs: FloatArray }
      : { gradLogits?: Logits; gradLogProbs?: FloatArray } & { [K in keyof LayerPlaces]?: Matrix };

/** The option for a batch; from hidden states, whether there is a gradient. */
export type BatchGradient<B> = 'new' | 'none' | (B extends { hidden: Matrix } ? never : GradientOption<ArrayOf<B>>);

/** As {@link BatchGradient}, for a loss: from logits it may leave the scale to the caller. */
export type LossGradient<B> = 'new' | 'none' | (B extends { hidden: Matrix } ? never : LossGradientOption<ArrayOf<B>>);

type ArrayOf<B> = B extends { logits: infer L extends Logits } ? L : Float32Array | Float64Array;

/** All options that say where a gradient goes. */
type Places = LayerPlaces & { gradient?: LossGradientOption<Logits | FloatArray> | undefined };

/** Where the gradient goes, checked, also against the `inputs` of the call, which must not be in that memory. */
export function gradientTarget(checked: CheckedSequences, options: Places, inputs: object): GradientTarget {
  const { gradient: option = 'new', gradHidden, gradWeight, gradBias } = options;
  const deferred = isDeferred(option);
  checkDeferred(option, checked);
  if (checked.layer)
    return layerTarget(checked.layer, option, { gradHidden, gradWeight, gradBias }, inputs, checked.columns);
  checkNoPlaces({ gradHidden, gradWeight, gradBias });
  if (checked.rows) {
    const place = deferred && isInPlace(option) ? 'in-place' : (option as GradientOption<Logits>);
    const view = gradientView(checked.rows.view, place, inputs);
    return view ? { kind: 'logits', view, deferred } : { kind: 'none' };
  }
  if (option === 'none') return { kind: 'none' };
  if (option === 'new') return { kind: 'logProbs', out: undefined, over: false };
  if (option === 'in-place') return overLogProbs('logProbs', logProbsOf(checked), inputs);
  if (typeof option !== 'object' || option === null || !('out' in option)) {
    throw badArgument('ERR_RANGE', 'gradient', "'new', 'in-place', 'none' or { out }", describe(option));
  }
  return logProbsOut(option.out, checked, inputs);
}

function layerTarget(
  layer: linear.LinearRows,
  option: unknown,
  places: LayerPlaces,
  inputs: object,
  columns: CheckedSequences['columns'],
): GradientTarget {
  if (option !== 'new' && option !== 'none') {
    const expected = "'new' or 'none' for hidden states (gradHidden, gradWeight and gradBias say where)";
    throw badArgument('ERR_RANGE', 'gradient', expected, describe(option));
  }
  const views = linear.linearGradientViews(
    inputs,
    layer,
    option === 'none' ? { ...NO_PLACES, ...given(places) } : places,
  );
  if (columns) checkHiddenSum(views.gradHidden, columns.ranks);
  return Object.values(views).some((view) => view !== undefined) ? { kind: 'layer', views } : { kind: 'none' };
}

const NO_PLACES: LayerPlaces = { gradHidden: 'none', gradWeight: 'none', gradBias: 'none' };

function given(places: LayerPlaces): LayerPlaces {
  return Object.fromEntries(Object.entries(places).filter(([, place]) => place !== undefined));
}

function checkNoPlaces(places: LayerPlaces): void {
  const [name] = Object.keys(given(places));
  if (name !== undefined) throw badArgument('ERR_RANGE', name, 'a batch of hidden states', 'another batch');
}

function checkDeferred(option: unknown, { rows, layer }: CheckedSequences): void {
  const { deferred } = (typeof option === 'object' && option !== null ? option : {}) as { deferred?: unknown };
  if (deferred !== undefined && typeof deferred !== 'boolean')
    throw badArgument('ERR_RANGE', 'gradient.deferred', 'true or false', describe(deferred));
  if (deferred === true && !rows)
    throw badArgument('ERR_RANGE', 'gradient.deferred', 'a batch of logits', layer ? 'hidden states' : 'log-probs');
}

/** Where the scale is deferred, every row's gradient is to be a multiple of `onehot - p`. */
export function checkMultiple(target: GradientTarget, ofEntropy: boolean): void {
  if (!ofEntropy || target.kind !== 'logits' || !target.deferred) return;
  throw badArgument('ERR_RANGE', 'gradient.deferred', 'a loss without an entropy bonus', 'one with it');
}

function logProbsOf({ logProbsSource, tokens }: CheckedSequences): ArrayOut {
  const own = logProbsSource as FloatArray;
  return { own, view: arrayOf('logProbs', own, ['Float32Array', 'Float64Array'], tokens, 'T') };
}

function logProbsOut(given: unknown, checked: CheckedSequences, inputs: object): GradientTarget {
  const name = 'gradient.out';
  const view = arrayOf(name, given, ['Float32Array', 'Float64Array'], checked.tokens, 'T, one value per token');
  const out = { own: given as FloatArray, view };
  const logProbs = logProbsOf(checked).view;
  const [to, from] = [extentOf(view), extentOf(logProbs)];
  if (tag(view) === tag(logProbs) && to.of === from.of && to.start === from.start)
    return overLogProbs(name, out, inputs);
  if (overlap(to, from)) {
    throw badArgument('ERR_RANGE', name, 'the log-probs themselves or memory apart from them', 'a partial overlap');
  }
  checkApart(name, to, inputs, []);
  return { kind: 'logProbs', out, over: false };
}

/** In place, other log-probs may be the same array (on-policy, the old ones are): the gradient is written after all reading. */
function overLogProbs(name: string, out: ArrayOut, inputs: object): GradientTarget {
  checkApart(name, extentOf(out.view), inputs, [
    ...['logProbs', 'oldLogProbs', 'refLogProbs', 'rolloutLogProbs', 'teacherLogProbs'],
  ]);
  return { kind: 'logProbs', out, over: true };
}

/** The gradient in a result: of whichever the batch had. */
export interface Gradients extends ReturnType<typeof linear.gradientsIn> {
  gradLogits?: Logits;
  gradLogProbs?: FloatArray;
  /** What the rows of `gradLogits` are yet to be multiplied with. */
  rowScale?: Float64Array;
}

/** A gradient in progress: read `badRows` for `checkRows`, then the others, and pass those to `finish`. */
export interface PendingGradient {
  array: MaybePending<HostArray> | readonly HostArray[] | DeviceMemory | undefined; // several from hidden states
  badRows?: MaybePending<Int32Array>;
  /** Throws if a row has no finite gradient. Before that is read: where a device wrote nothing there is nothing to read. */
  checkRows?: (badRows: Int32Array) => void;
  upstream?: MaybePending<Float64Array> | undefined; // [T] dL/dlogProbs, where the scale is deferred
  finish(
    array: HostArray | readonly HostArray[] | DeviceMemory | undefined,
    upstream?: Float64Array,
  ): Sliced<Gradients>;
}

/** `watch`: the logits may have changed since the forward pass. */
export function* writeGradientTask(
  level: TokenLevel | WrittenTokenLevel,
  target: GradientTarget,
  terms: readonly Term[],
  watch: boolean,
): Task<PendingGradient> {
  if (target.kind === 'none') return { array: undefined, finish: () => done({}) };
  const direct = target.kind === 'logProbs' && !target.over && tag(target.out?.view) === 'Float64Array';
  const into = direct ? (target.out?.view as Float64Array) : undefined;
  if (target.kind === 'logits' && !target.deferred && 'written' in level) {
    const { gradLogits, badRows } = level.written;
    return { array: gradLogits, badRows, checkRows, finish: () => done({ gradLogits: target.view.source }) };
  }
  const gradLogProbs = yield* tokenGradientTask(level, terms, 'logProbs', into);
  if (target.kind === 'logProbs') {
    const finish = function* (array: unknown): Sliced<Gradients> {
      const values = array as Float64Array;
      const { out } = target;
      yield* checkLogProbGradient(values, out?.own);
      if (!out || into) return { gradLogProbs: out?.own ?? values };
      yield* slices(values.length, (begin, end) => out.view.set(values.subarray(begin, end), begin));
      return { gradLogProbs: out.own };
    };
    return { array: gradLogProbs, finish };
  }
  if (target.kind === 'layer') return yield* layerGradientTask(level, target.views, terms, gradLogProbs);
  checkMultiple(
    target,
    terms.some(({ of }) => of === 'entropy'),
  );
  const scale = target.deferred ? gradLogProbs : undefined;
  const finish = function* (_array: unknown, upstream?: Float64Array): Sliced<Gradients> {
    const gradLogits = target.view.source;
    return upstream ? { gradLogits, rowScale: yield* rowScaleOf(upstream, level) } : { gradLogits };
  };
  if ('written' in level) {
    if (scale) yield* token.zeroRowsTask(target.view, scale);
    return { array: level.written.gradLogits, badRows: level.written.badRows, checkRows, upstream: scale, finish };
  }
  const { rows, onNonFinite } = level.checked;
  // Where non-finite rows are an error nothing is written; so far only the device may know of them.
  const halt = onNonFinite === 'error' ? level.nonFinite : undefined;
  const gradEntropy = yield* entropyGradientTask(level, terms);
  const upstream = { logSumExp: level.logSumExp!, gradLogProbs, entropy: level.entropy, gradEntropy, halt, watch };
  const { gradLogits, badRows } = yield* token.backwardTask({ ...rows!, mask: yield* rowMask(level) }, target.view, {
    ...upstream,
    deferred: target.deferred,
  });
  return { array: gradLogits, badRows, checkRows, upstream: scale, finish };
}

/** The rows that have a gradient on this rank. */
function* rowMask({ checked: { columns }, mask }: TokenLevel): Task<MaybePending<Uint8Array> | undefined> {
  return columns?.without ? yield* heldMask(columns, (yield* read(mask))[0]) : mask;
}

function* entropyGradientTask(level: TokenLevel, terms: readonly Term[]) {
  return terms.some(({ of }) => of === 'entropy') ? yield* tokenGradientTask(level, terms, 'entropy') : undefined;
}

/** To hidden states and their layer. */
function* layerGradientTask(
  level: TokenLevel,
  views: linear.LinearGradientViews,
  terms: readonly Term[],
  gradLogProbs: MaybePending<Float64Array>,
): Task<PendingGradient> {
  const { checked, logSumExp, entropy, mask, keptLogits } = level;
  const layer = checked.layer!;
  const [nonFinite] = yield* read(level.nonFinite);
  if (nonFinite[0] !== 0 && checked.onNonFinite === 'error') return { array: undefined, finish: () => done({}) };
  const gradEntropy = yield* entropyGradientTask(level, terms);
  const upstream = { logSumExp: logSumExp!, gradLogProbs, entropy: gradEntropy && entropy, gradEntropy };
  const checkRows = (bad: Int32Array) => linear.checkLinearGradients(bad, layer, 'gradient', CAUSES);
  const part = checked.columns && views.gradHidden && partialHidden(views.gradHidden);
  const written = part ? { ...views, gradHidden: part } : views;
  const badRows = yield* linear.backwardTask({ ...layer, mask }, written, upstream, keptLogits, checked.chunkBytes);
  if (part) {
    checkRows((yield* read(badRows))[0]);
    yield* sumHidden(checked.columns!.ranks, part, views.gradHidden!);
  }
  return {
    array: linear.hostGradients(views),
    badRows,
    checkRows,
    finish: () => done(linear.gradientsIn(views)),
  };
}

/** dL/dlogits of a row is this times `onehot - p`. [T] */
function* rowScaleOf(gradLogProbs: Float64Array, { checked }: TokenLevel): Sliced<Float64Array> {
  const { temperature } = checked.rows!;
  const scale = yield* mapped(gradLogProbs, (gradient) => gradient / temperature);
  yield* finiteResults({ 'gradient.rowScale': scale }, CAUSES);
  return scale;
}

// biome-ignore lint/correctness/useYield: work that is done
function* done(gradients: Gradients): Sliced<Gradients> {
  return gradients;
}

const CAUSES = 'scores, rewards, advantages or coefficients are too large, or a normalizer too small';

function checkRows(badRows: Int32Array): void {
  token.checkGradient(badRows, 'gradient', CAUSES);
}

/** Every value is finite, also as an element of `out`. */
function* checkLogProbGradient(values: Float64Array, out: FloatArray | undefined): Sliced<void> {
  const single = tag(out) === 'Float32Array';
  if (!single && (yield* allFinite(values))) return;
  const overflow = single ? 3.4028235677973366e38 : Infinity; // the first number that is rounded to infinity
  const t = yield* findIndex(values.length, (at) => !(Math.abs(values[at]) < overflow));
  if (t === -1) return;
  const expected = single ? 'values within float32' : 'finite values';
  throw badArgument('ERR_NONFINITE', 'gradient', expected, `${values[t]} at token ${t}: ${CAUSES}`);
}
