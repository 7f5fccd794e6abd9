// A trainer's padded [B, L] layout as a packed batch (spec section 1). Logits stay where they are; only offsets are made.

import { DeviceTensor } from './cuda/device.js';
import { badArgument, describe, isArray, itemsOf } from './errors.js';
import type { HostTensor } from './host-tensor.js';
import { type Logits, logitsView } from './logits.js';
import { contiguous, givenMatrix, type Matrix } from './matrices.js';
import { newArray } from './memory.js';
import type { WithTypedArrays } from './number-lists.js';
import { takeFields } from './options.js';
import { arrayOf, type FloatArray, finiteNumber, ID_ARRAYS, objectArgument, oneSource } from './validate.js';

/** As {@link HostTensor}, also in a trainer's shape [B, L, V]; `rowStride` is from one token to the next in both. */
export interface PaddedTensor extends Omit<HostTensor, 'shape'> {
  /** [B * L, V], or [B, L, V]; of hidden states [B * L, d], or [B, L, d]. */
  shape: HostTensor['shape'] | readonly [sequences: number, length: number, vocab: number];
}

/** Logits of a padded batch: a contiguous `Float32Array` of B * L * V, or a tensor of shape [B * L, V] or [B, L, V]. */
export type PaddedLogits = Logits | PaddedTensor;

interface PaddedSequences {
  /** [B, L], sequences, and the length that all of them are padded to. */
  shape: readonly [sequences: number, length: number];
  /** [B * L]; 1 for a token that counts, 0 for padding and prompt. Padding may be on either side, or in between. */
  mask: Uint8Array;
  /** [B * L] log-probs under the behaviour policy. Omitted: on-policy. */
  oldLogProbs?: FloatArray | undefined;
  /** Made from the shape. */
  cuSeqlens?: undefined;
}

/** @inline */
interface PaddedFromLogits extends PaddedSequences {
  /** [B * L, V]; row t scores the token at `targets[t]`. */
  logits: PaddedLogits;
  /** V. With it, logits of another number of rows are refused, which else might pass for rows of another length. */
  vocab?: number | undefined;
  /** [B * L] sampled token ids; any value where masked. */
  targets: Int32Array | BigInt64Array;
  /** Not with logits. */
  hidden?: undefined;
  /** Not with logits. */
  logProbs?: undefined;
}

/** @inline */
interface PaddedFromHidden extends PaddedSequences {
  /** [B * L, d] hidden states, what the last layer is given; row t scores the token at `targets[t]`. */
  hidden: Matrix | PaddedTensor;
  /** [V, d] the weight of that layer. */
  weight: Matrix;
  /** [V] its bias. */
  bias?: Matrix | undefined;
  /** [B * L] sampled token ids; any value where masked. */
  targets: Int32Array | BigInt64Array;
  /** Not with hidden states. */
  logits?: undefined;
  /** Not with hidden states. */
  logProbs?: undefined;
  /** Not with hidden states: the weight has it. */
  vocab?: undefined;
}

/** @inline */
interface PaddedFromLogProbs extends PaddedSequences {
  /** [B * L] log-probs of the sampled tokens, in place of logits and targets. */
  logProbs: FloatArray;
  /** Not with log-probs. */
  logits?: undefined;
  /** Not with log-probs. */
  hidden?: undefined;
  /** Not with log-probs. */
  targets?: undefined;
  /** Not with log-probs. */
  vocab?: undefined;
}

/** A batch in a trainer's [B, L] layout, row-major: token t of sequence b is at `b * L + t`. */
export type PaddedBatch = PaddedFromLogits | PaddedFromHidden | PaddedFromLogProbs;

/** Logits or hidden states of a packed batch: a tensor of shape [B, L, V] becomes one of [B * L, V], the rest stays what it is. */
type PackedRows<L> = L extends { shape: readonly number[] }
  ? L extends { shape: HostTensor['shape'] }
    ? L
    : Omit<L, 'shape'> & Pick<HostTensor, 'shape'>
  : L;

/** What {@link padded} makes of a batch `B`: the same, without `shape` and `vocab`, and with `cuSeqlens`; plain arrays become typed ones. */
export type Packed<B> = PackedOf<WithTypedArrays<B>>;

type PackedOf<B> = B extends unknown
  ? {
      [K in keyof B as Exclude<K, 'shape' | 'vocab' | 'cuSeqlens'>]: K extends 'logits' | 'hidden'
        ? PackedRows<B[K]>
        : B[K];
    } & {
      /** [B + 1], 0, L, 2L, ... B * L. */
      cuSeqlens: Int32Array;
    }
  : never;

/**
 * A trainer's padded [B, L] batch as a packed batch for the losses: T = B * L tokens in N = B sequences, with
 * `cuSeqlens` = 0, L, 2L, ... B * L. Nothing is copied but plain arrays: every typed array of the result is the caller's own, so
 * `gradient: 'in-place'` overwrites the caller's logits, and gradients come back as [B * L, V] or [B * L]. Masked rows
 * are never read. All other keys (`rewards` [B], `cuGroups`, `refLogProbs` [B * L], `advantages` [B] ...) are passed on.
 *
 * Row t of the logits must score `targets[t]`. A causal model's output at position t scores the token at t + 1; there,
 * keep all L rows and shift the targets: `targets[b * L + t] = inputIds[b * L + t + 1]`, the mask (and old and reference
 * log-probs) likewise, with `mask` 0 in the last column. {@link fromRollouts} does so, of prompts and answers. With `vocab`, logits that
 * are not B * L * `vocab` are refused, such as those of L - 1 positions.
 *
 * @example
 * ```ts
 * import { conspo, fromDense, padded } from 'rlvr-kernels';
 *
 * const batch = padded({
 *   shape: [2, 3], // [B, L]: two sequences, padded to three tokens
 *   logProbs: Float32Array.of(-0.1, 0, 0, -0.5, -0.9, 0), // [B * L]; or logits [B * L, V] and targets
 *   mask: Uint8Array.of(1, 0, 0, 1, 1, 0), // [B * L]
 *   rewards: Float32Array.of(1, 0), // [B]
 *   ...fromDense(['a prompt', 'a prompt']),
 * });
 * const { scores, gradLogProbs } = await conspo(batch);
 * console.log(batch.cuSeqlens); // => Int32Array(3) [ 0, 3, 6 ]
 * console.log(scores, gradLogProbs.length); // => Float64Array(2) [ -0.1, -0.7 ] 6
 * ```
 *
 * @throws RlvrError `ERR_SHAPE`, `ERR_DTYPE` for arrays that are not of the shape or type; `ERR_RANGE` for a shape that
 * is not two whole numbers with B * L below 2^31, or when the batch has `cuSeqlens` already.
 */
export function padded<const B extends PaddedBatch>(batch: B): Packed<B> {
  const { vocab, ...fields } = takeFields<PaddedBatch>('batch', batch);
  const { shape, vocab: _, ...others } = batch as PaddedBatch;
  const [sequences, length] = paddedShape(shape);
  checkTokens(fields as PaddedBatch, sequences * length);
  const cuSeqlens = offsetsEvery(length, sequences);
  const { logits, hidden } = fields;
  if (vocab !== undefined && logits === undefined)
    throw badArgument('ERR_RANGE', 'vocab', 'none but with logits', describe(vocab));
  const packed = {
    ...others,
    ...fields, // also those that a class inherits, or has as getters
    ...(logits !== undefined && { logits: packedLogits(logits, vocab, sequences, length) }),
    ...(hidden !== undefined && { hidden: packedHidden(hidden, sequences, length) }),
    cuSeqlens,
  };
  return packed as unknown as Packed<B>; // key by key what the type says
}

/** 0, length, 2 * length, ... for so many sequences. */
function offsetsEvery(length: number, sequences: number): Int32Array {
  const offsets = newArray('shape', Int32Array, sequences + 1);
  for (let b = 0; b <= sequences; b++) offsets[b] = b * length;
  return offsets;
}

const INT32_MAX = 2 ** 31 - 1;

function paddedShape(shape: unknown): [sequences: number, length: number] {
  if (!isArray(shape) || shape.length !== 2) throw badArgument('ERR_SHAPE', 'shape', '[B, L]', shapeText(shape));
  const sequences = finiteNumber('shape[0]', shape[0], { min: 0, max: INT32_MAX - 1, integer: true });
  const length = finiteNumber('shape[1]', shape[1], { min: 0, max: INT32_MAX, integer: true });
  const tokens = sequences * length;
  if (tokens > INT32_MAX) throw badArgument('ERR_RANGE', 'shape', 'B * L below 2^31', `${shapeText(shape)}, ${tokens}`);
  return [sequences, length];
}

function shapeText(shape: unknown): string {
  return isArray(shape) ? `[${itemsOf(shape, 8).map(describe).join(', ')}]` : describe(shape);
}

function checkTokens(batch: PaddedBatch, tokens: number): void {
  const { logProbs, targets, mask, cuSeqlens } = batch;
  if (cuSeqlens !== undefined) {
    throw badArgument('ERR_RANGE', 'cuSeqlens', 'none: padded makes them from the shape', describe(cuSeqlens));
  }
  oneSource(batch);
  arrayOf('mask', mask, ['Uint8Array'], tokens, 'B * L, one flag per token');
  if (logProbs === undefined) arrayOf('targets', targets, ID_ARRAYS, tokens, 'B * L, one id per token');
  else arrayOf('logProbs', logProbs, ['Float32Array', 'Float64Array'], tokens, 'B * L, one value per token');
}

function packedLogits(given: PaddedLogits, vocab: unknown, sequences: number, length: number): Logits {
  const logits =
    ArrayBuffer.isView(given) || given instanceof DeviceTensor
      ? given
      : packedRows('logits', given, 'V', sequences, length);
  const tokens = sequences * length;
  if (vocab !== undefined)
    checkVocab(logits, finiteNumber('vocab', vocab, { min: 1, max: INT32_MAX, integer: true }), tokens);
  else logitsView('logits', logits, tokens);
  return logits;
}

/** Refuses logits that are not [tokens, vocab]. */
function checkVocab(logits: Logits, vocab: number, tokens: number): void {
  if (ArrayBuffer.isView(logits)) {
    const { data } = contiguous('logits', logits);
    if (data.length === tokens * vocab) return;
    const rows = data.length % vocab === 0 ? `, ${data.length / vocab} rows` : '';
    throw badArgument(
      'ERR_SHAPE',
      'logits',
      `length ${tokens * vocab} (B * L * vocab)`,
      `length ${data.length}${rows}`,
    );
  }
  const view = logitsView('logits', logits, tokens);
  if (view.vocab === vocab) return;
  throw badArgument('ERR_SHAPE', 'logits.shape', `rows of ${vocab} (vocab)`, `${view.vocab}`);
}

function packedHidden(given: Matrix | PaddedTensor, sequences: number, length: number): Matrix {
  const hidden =
    ArrayBuffer.isView(given) || given instanceof DeviceTensor
      ? given
      : packedRows('hidden', given, 'd', sequences, length);
  givenMatrix('hidden', hidden, '[T, d]');
  return hidden;
}

/** A tensor whose rows are those of the tokens, in one shape or the other. */
function packedRows(name: string, given: HostTensor | PaddedTensor, width: string, sequences: number, length: number) {
  const tokens = sequences * length;
  const { shape } = objectArgument(name, given);
  const dimensions = isArray(shape) && shape.length <= 3 ? (itemsOf(shape, 3) as number[]) : [];
  const [first, second, columns] = dimensions;
  const flat = dimensions.length === 2 && first === tokens;
  if (!flat && !(dimensions.length === 3 && first === sequences && second === length)) {
    const expected = `[${tokens}, ${width}] or [${sequences}, ${length}, ${width}]`;
    throw badArgument('ERR_SHAPE', `${name}.shape`, expected, shapeText(shape));
  }
  return flat ? (given as HostTensor) : flattened(given, tokens, columns);
}

/** The same memory as a matrix of so many rows. */
function flattened(tensor: HostTensor | PaddedTensor, rows: number, columns: number): HostTensor {
  const { data, dtype, rowStride } = tensor; // read by name: a class may have them as getters
  return {
    ...tensor,
    data,
    ...(dtype !== undefined && { dtype }),
    ...(rowStride !== undefined && { rowStride }),
    shape: [rows, columns],
  };
}
