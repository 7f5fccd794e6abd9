import { badArgument, describe, isArray, itemsOf } from '../errors.js';
import type { Rewarded } from '../levels/batch.js';
import { LOSS_NAMES, type LossName } from '../losses/list.js';
import type { WholeNumbers, WithTypedArrays } from '../number-lists.js';
import { namesOf, takeFields, takeOptions } from '../options.js';
import { atOnce } from '../slices.js';
import { finiteNumber, objectArgument, offsets, oneOf, optionalMask } from '../validate.js';
import { cutters, from0, type Range } from './cut.js';
import { type Counts, countsOf, type Denominators, denominators } from './denominator.js';

/** A batch that {@link microBatches} cuts: packed, or padded and not packed yet; with or without logits. */
export type CuttableBatch = Partial<Omit<Rewarded, 'groupOrder' | 'groupIds'>> & {
  /** Not here: the sequences of a group must lie side by side. */
  groupOrder?: undefined;
  /** Nor here. */
  groupIds?: undefined;
  /** [T] or [B * L]. */
  mask?: Uint8Array | undefined;
} & (
    | {
        /** [N + 1], sequence i is tokens `cuSeqlens[i] ... cuSeqlens[i + 1]`. */
        cuSeqlens: WholeNumbers;
        /** Not of a packed batch. */
        shape?: undefined;
      }
    | {
        /** [B, L], of a padded batch. */
        shape: readonly [sequences: number, length: number];
        /** Not of a padded batch. */
        cuSeqlens?: undefined;
      }
  );

/** Options of {@link microBatches}. */
export interface MicroBatchesOptions<O extends object = object> {
  /** The most tokens of a part, padding and prompts counted; this or `sequences`. */
  tokens?: number | undefined;
  /** The most sequences of a part. */
  sequences?: number | undefined;
  /** The loss of the parts; for a loss of your own, one with the same objective. */
  loss: LossName;
  /** Its options, but for `normalizer` and `entropyNormalizer`. */
  options?: O | undefined;
}

/** A part of a batch, for one call of the loss. */
export interface MicroBatch<B, O = object> {
  /**
   * Its batch: every array is a view of the whole one's, but for offsets and plain arrays, which become typed ones. Fields of your own
   * are those of the whole.
   */
  batch: WithTypedArrays<B>;
  /** The options of the loss, with the denominators of the whole batch. */
  options: O & Denominators;
}

/**
 * Cuts a batch into parts of whole groups, in order, so that the losses of the parts add up to the loss of the batch, and their gradients,
 * one behind the other, are its gradient: each part's options have the `normalizer` of the whole batch. Logits, hidden states and all else
 * are views, so with `gradient: 'in-place'` the gradients lie where the batch's would.
 *
 * A batch need not have its logits yet: the parts of {@link fromRollouts}, with `inputIds` and `attentionMask`, are what a model is run on.
 * Without `cuGroups`, any sequences may be in one part. With `onNonFinite: 'skip'`, tokens that are skipped still count in the denominator.
 *
 * @example
 * ```ts
 * import { dapo, microBatches } from 'rlvr-kernels';
 *
 * const batch = {
 *   logProbs: Float32Array.of(-0.4, -1, -0.6, -0.8, -0.2, -0.8, -0.5),
 *   oldLogProbs: Float32Array.of(-0.5, -0.9, -0.6, -0.7, -0.3, -0.8, -0.2),
 *   cuSeqlens: Int32Array.of(0, 2, 3, 4, 7),
 *   cuGroups: Int32Array.of(0, 2, 4),
 *   rewards: Float32Array.of(1, 0, 1, 0),
 * };
 * let sum = 0;
 * for (const part of microBatches(batch, { tokens: 4, loss: 'dapo' })) {
 *   const { loss } = await dapo(part.batch, part.options);
 *   sum += loss;
 * }
 * const whole = await dapo(batch);
 * console.log(Math.abs(sum - whole.loss) < 1e-12); // => true
 * ```
 *
 * @throws RlvrError `ERR_RANGE` for a group that is larger than a part, for groups that do not lie side by side, and for options of a loss
 * that looks at the whole batch (whitened advantages, `entropyQuantile`, `klConstraint` and the like); `ERR_SHAPE`, `ERR_DTYPE`, `ERR_OPTION`.
 */
export function microBatches<B extends CuttableBatch, O extends object = object>(
  batch: B,
  options: MicroBatchesOptions<O>,
): MicroBatch<B, O>[] {
  const cut = cutBatch('microBatches', batch, options);
  if ((cut.options as { parallel?: unknown }).parallel !== undefined)
    throw badArgument(
      'ERR_RANGE',
      'options.parallel',
      'none: microBatchesOnRanks is for batches of several ranks',
      'ranks',
    );
  return cut.parts.map((part) => ({ batch: part, options: { ...cut.options, ...cut.own } }));
}

/** A batch in parts, as {@link microBatches} and its sibling for ranks have it. */
interface CutBatch<B, O> {
  parts: WithTypedArrays<B>[];
  loss: LossName;
  options: O; // of the loss, as given
  fields: object; // of the batch
  counts: Counts;
  own: Denominators; // of this batch
}

/** Cuts a batch for a function of this name. */
export function cutBatch<B extends CuttableBatch, O extends object>(
  name: string,
  batch: B,
  options: MicroBatchesOptions<O>,
): CutBatch<B, O> {
  const names = namesOf<MicroBatchesOptions>({ tokens: true, sequences: true, loss: true, options: true });
  const given = takeOptions(name, objectArgument('options', options), names);
  const loss = oneOf('loss', given.loss, LOSS_NAMES);
  const ofLoss = given.options === undefined ? ({} as O) : objectArgument('options.options', given.options as O);
  const fields = fieldsOf(batch);
  const { cuSeqlens, cuGroups } = fields;
  const mask = optionalMask(fields.all.mask, cuSeqlens[cuSeqlens.length - 1]);
  const counts = countsOf(cuSeqlens, mask, cuGroups && cuGroups.length - 1);
  const own = denominators(loss, ofLoss, counts);
  const cuts = cutters(fields.all, cuSeqlens);
  const ranges = partsOf(cuSeqlens, cuGroups ?? Int32Array.from(cuSeqlens, (_, i) => i), limitOf(given));
  const parts = ranges.map((range) => {
    const { first, last, groups } = range;
    const part: Record<string, unknown> = { ...batch, ...fields.all };
    for (const name in cuts) part[name] = cuts[name](range);
    if (fields.length === undefined) part.cuSeqlens = from0(cuSeqlens, first, last);
    else part.shape = [last - first, fields.length];
    if (cuGroups) part.cuGroups = from0(cuGroups, ...groups);
    return part as WithTypedArrays<B>;
  });
  return { parts, loss, options: ofLoss, fields: fields.all, counts, own };
}

/** The fields of a batch, and its offsets, checked. `length` is L of a padded one. */
function fieldsOf(batch: CuttableBatch) {
  const taken: Record<string, unknown> = takeFields<object>('batch', batch) as Record<string, unknown>;
  const { shape, inputIds, attentionMask } = batch as Record<string, unknown>;
  const all: Record<string, unknown> = { ...taken, inputIds, attentionMask };
  for (const name of ['groupOrder', 'groupIds'])
    if (taken[name] !== undefined)
      throw badArgument('ERR_RANGE', name, 'none: groups that lie side by side', describe(taken[name]));
  const padded = shape === undefined ? undefined : paddedOffsets(shape, taken.cuSeqlens);
  const cuSeqlens = padded?.cuSeqlens ?? atOnce(offsets('cuSeqlens', taken.cuSeqlens));
  const sequences = cuSeqlens.length - 1;
  const cuGroups =
    taken.cuGroups === undefined ? undefined : atOnce(offsets('cuGroups', taken.cuGroups, sequences, 'N'));
  return { all, cuSeqlens, cuGroups, length: padded?.length };
}

/** The offsets of a padded batch, of this shape. */
export function paddedOffsets(shape: unknown, cuSeqlens: unknown) {
  if (cuSeqlens !== undefined)
    throw badArgument('ERR_RANGE', 'cuSeqlens', 'none beside the shape of a padded batch', describe(cuSeqlens));
  const [sequences, length] = (isArray(shape) ? itemsOf(shape, 3) : []).map((value, i) =>
    finiteNumber(`shape[${i}]`, value, { min: 0, max: 2 ** 31 - 2, integer: true }),
  );
  if (!isArray(shape) || shape.length !== 2 || sequences * length >= 2 ** 31)
    throw badArgument('ERR_SHAPE', 'shape', '[B, L] with B * L below 2^31', describe(shape));
  return { cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, b) => b * length), length };
}

interface Limit {
  of: 'tokens' | 'sequences';
  most: number;
}

function limitOf({ tokens, sequences }: { tokens?: unknown; sequences?: unknown }): Limit {
  if ((tokens === undefined) === (sequences === undefined)) {
    const got = tokens === undefined ? 'neither' : 'both';
    throw badArgument('ERR_RANGE', 'options', 'either tokens or sequences', got);
  }
  const of = tokens === undefined ? 'sequences' : 'tokens';
  return { of, most: finiteNumber(of, tokens ?? sequences, { min: 1, integer: true }) };
}

/** As many groups to a part as fit. */
function partsOf(cuSeqlens: Int32Array, cuGroups: Int32Array, { of, most }: Limit): Range[] {
  const at = (group: number) => (of === 'tokens' ? cuSeqlens[cuGroups[group]] : cuGroups[group]);
  const ranges: Range[] = [];
  let start = 0;
  for (let g = 1; g < cuGroups.length; g++) {
    const size = at(g) - at(g - 1);
    if (size > most) throw badArgument('ERR_RANGE', of, `at least the ${size} of group ${g - 1}`, `${most}`);
    const isLast = g + 1 === cuGroups.length;
    if (!isLast && at(g + 1) - at(start) <= most) continue;
    const [first, last] = [cuGroups[start], cuGroups[g]];
    ranges.push({ first, last, begin: cuSeqlens[first], end: cuSeqlens[last], groups: [start, g] });
    start = g;
  }
  return ranges;
}
