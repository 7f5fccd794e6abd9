// The [T, V] arrays users hand over, in each of their forms, as one view.

import { checkApart, type Extent, overlap } from './backend/extents.js';
import { DeviceTensor, memoryOf } from './cuda/device.js';
import { badArgument, describe } from './errors.js';
import { type HostTensor, hostView } from './host-tensor.js';
import { DTYPE_CODES, type DTypeCode, type LogitsData } from './kernels.js';
import { contiguous, matrixExtent, newMatrix, samePlace } from './matrices.js';

/** Logits of any supported form: a contiguous `Float32Array` of T * V, or a tensor with its shape, here or on a GPU. */
export type Logits = Float32Array | HostTensor | DeviceTensor;

/**
 * Where a gradient goes. `'in-place'` overwrites the logits (or log-probs): no second T * V array is made. `out` must share no
 * memory with any input, unless it is the logits (or log-probs) themselves.
 */
export type GradientOption<Target> =
  | 'new'
  | 'in-place'
  | 'none'
  | {
      /** The array to write to. */
      out: Target;
    };

/**
 * The gradient of the logits without its scale: row t gets `onehot - p`, in place of the logits or in `out`, and the result has
 * `rowScale` [T] to multiply it with where it is used next. One pass over the logits then does for losses that know the scale only
 * when they have seen every row.
 */
export interface DeferredGradient<Target> {
  /** Write `onehot - p`, and return `rowScale`. */
  deferred: true;
  /** An array to write to. Omitted: the gradient overwrites the logits. */
  out?: Target;
}

/** As {@link GradientOption}, for a loss; deferred from logits only. */
export type LossGradientOption<Target> = GradientOption<Target> | DeferredGradient<Target>;

/** Whether an option means that an input is overwritten with its gradient. */
export function isInPlace(gradient: unknown): boolean {
  return gradient === 'in-place' || (isDeferred(gradient) && !('out' in (gradient as object)));
}

/** Whether an option asks for the gradient without its scale. */
export function isDeferred(gradient: unknown): boolean {
  return typeof gradient === 'object' && gradient !== null && (gradient as { deferred?: unknown }).deferred === true;
}

/** A validated [T, V] array. */
export interface LogitsView {
  data: LogitsData;
  dtype: DTypeCode;
  tokens: number;
  vocab: number;
  rowStride: number;
  source: Logits; // what the user gave
}

/** Checks one [T, V] argument; T is known from the targets. */
export function logitsView(name: string, value: unknown, tokens: number): LogitsView {
  if (ArrayBuffer.isView(value)) return contiguousView(name, value, tokens);
  if (Array.isArray(value)) throw badArgument('ERR_DTYPE', name, 'a Float32Array or { data, shape }', describe(value));
  const view = value instanceof DeviceTensor ? deviceView(name, value) : hostView(name, value);
  if (view.tokens === tokens) return view;
  throw badArgument('ERR_SHAPE', `${name}.shape`, `${tokens} rows (T, one per target)`, `${view.tokens}`);
}

/** Checks one [T, V] argument of which V is known, if it does not say so itself. */
export function rowsView(name: string, value: unknown, vocab: number | undefined): LogitsView {
  if (ArrayBuffer.isView(value)) {
    if (vocab === undefined) throw badArgument('ERR_RANGE', 'vocab', `V, as ${name} has no shape`, 'undefined');
    const { length } = contiguous(name, value).data;
    if (length % vocab !== 0) throw badArgument('ERR_SHAPE', name, `a multiple of ${vocab} elements (V)`, `${length}`);
    return { ...contiguousView(name, value, length / vocab), vocab, rowStride: vocab };
  }
  if (Array.isArray(value)) throw badArgument('ERR_DTYPE', name, 'a Float32Array or { data, shape }', describe(value));
  const view = value instanceof DeviceTensor ? deviceView(name, value) : hostView(name, value);
  if (vocab === undefined || view.vocab === vocab) return view;
  throw badArgument('ERR_SHAPE', 'vocab', `${view.vocab}, as ${name}.shape says`, `${vocab}`);
}

function deviceView(name: string, tensor: DeviceTensor): LogitsView {
  const { dtype, rowStride, shape } = tensor;
  const [tokens, vocab] = shape;
  const data = memoryOf(name, tensor);
  return { data, dtype: DTYPE_CODES[dtype], tokens, vocab, rowStride, source: tensor };
}

function contiguousView(name: string, value: ArrayBufferView, tokens: number): LogitsView {
  const { data, dtype } = contiguous(name, value);
  const vocab = tokens === 0 ? 0 : data.length / tokens;
  if (!Number.isInteger(vocab) || (tokens > 0 && vocab === 0) || (tokens === 0 && data.length > 0)) {
    throw badArgument('ERR_SHAPE', name, `a multiple of ${tokens} elements (T * V)`, `${data.length}`);
  }
  return { data, dtype, tokens, vocab, rowStride: vocab, source: value as Float32Array };
}

/** The array for the gradient, in the form and dtype of the logits, apart from all other `inputs`; undefined for 'none'. */
export function gradientView(
  logits: LogitsView,
  option: GradientOption<Logits> = 'new',
  inputs: object,
): LogitsView | undefined {
  if (option === 'none') return undefined;
  if (option === 'new') return newGradient(logits);
  if (option === 'in-place') {
    checkApart('logits', extent(logits), inputs, ['logits']);
    return logits;
  }
  if (typeof option !== 'object' || option === null || !('out' in option)) {
    throw badArgument('ERR_RANGE', 'gradient', "'new', 'in-place', 'none' or { out }", describe(option));
  }
  const out = logitsView('gradient.out', option.out, logits.tokens);
  samePlace('gradient.out', out.source, 'the logits', logits.source);
  if (out.dtype !== logits.dtype) throw badArgument('ERR_DTYPE', 'gradient.out', 'the dtype of the logits', 'another');
  if (out.vocab !== logits.vocab) throw badArgument('ERR_SHAPE', 'gradient.out', `V = ${logits.vocab}`, `${out.vocab}`);
  const [to, from] = [extent(out), extent(logits)];
  const same = to.of === from.of && to.start === from.start && out.rowStride === logits.rowStride;
  if (!same && overlap(to, from)) {
    throw badArgument(
      'ERR_RANGE',
      'gradient.out',
      'the logits themselves or memory apart from them',
      'a partial overlap',
    );
  }
  checkApart('gradient.out', to, inputs, ['logits']);
  return out;
}

/** The memory from a view's first element to its last. */
function extent({ tokens: rows, vocab: width, ...view }: LogitsView): Extent {
  return matrixExtent({ ...view, rows, width });
}

function newGradient({ tokens, vocab, ...view }: LogitsView): LogitsView {
  const fresh = newMatrix('gradient', { ...view, rows: tokens, width: vocab }, tokens, vocab);
  return { ...fresh, tokens, vocab };
}
