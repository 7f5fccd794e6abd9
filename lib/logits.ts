// The [T, V] arrays users hand over, in each of their forms, as one view.

import { preparedForWriting } from './backend/outputs.js';
import { DeviceTensor, memoryOf } from './cuda/device.js';
import { badArgument, describe, tag } from './errors.js';
import { HALF_ARRAY, type HostTensor, hostView, tensorData } from './host-tensor.js';
import { DTYPE_CODES, type DType, type DTypeCode, type HostLogits, type LogitsData } from './kernels.js';
import { newArray } from './memory.js';

/** Logits of any supported form: a contiguous `Float32Array` of T * V, or a tensor with its shape, here or on a GPU. */
export type Logits = Float32Array | HostTensor | DeviceTensor;

/** Where the gradient of the logits goes. `'in-place'` overwrites the logits: no second T * V array is made. */
export type GradientOption<Target> = 'new' | 'in-place' | 'none' | { out: Target };

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

function deviceView(name: string, tensor: DeviceTensor): LogitsView {
  const { dtype, rowStride, shape } = tensor;
  const [tokens, vocab] = shape;
  const data = memoryOf(name, tensor);
  return { data, dtype: DTYPE_CODES[dtype], tokens, vocab, rowStride, source: tensor };
}

function contiguousView(name: string, value: ArrayBufferView, tokens: number): LogitsView {
  if (tag(value) === 'Uint16Array') {
    throw badArgument('ERR_DTYPE', name, "{ data, shape, dtype: 'bf16' or 'f16' } for 16-bit data", describe(value));
  }
  const { data, dtype } = tensorData(name, value as Float32Array);
  const vocab = tokens === 0 ? 0 : data.length / tokens;
  if (!Number.isInteger(vocab) || (tokens > 0 && vocab === 0) || (tokens === 0 && data.length > 0)) {
    throw badArgument('ERR_SHAPE', name, `a multiple of ${tokens} elements (T * V)`, `${data.length}`);
  }
  return { data, dtype: DTYPE_CODES[dtype], tokens, vocab, rowStride: vocab, source: value as Float32Array };
}

/** The array for the gradient, in the form and dtype of the logits; undefined for 'none'. */
export function gradientView(logits: LogitsView, option: GradientOption<Logits> = 'new'): LogitsView | undefined {
  if (option === 'none') return undefined;
  if (option === 'in-place') return logits;
  if (option === 'new') return newGradient(logits);
  if (typeof option !== 'object' || option === null || !('out' in option)) {
    throw badArgument('ERR_RANGE', 'gradient', "'new', 'in-place', 'none' or { out }", describe(option));
  }
  const out = logitsView('gradient.out', option.out, logits.tokens);
  samePlace(out.source, logits.source);
  if (out.dtype !== logits.dtype) throw badArgument('ERR_DTYPE', 'gradient.out', 'the dtype of the logits', 'another');
  if (out.vocab !== logits.vocab) throw badArgument('ERR_SHAPE', 'gradient.out', `V = ${logits.vocab}`, `${out.vocab}`);
  const same = sameMemory(out, logits);
  if (!same && overlaps(out, logits)) {
    throw badArgument(
      'ERR_RANGE',
      'gradient.out',
      'the logits themselves or memory apart from them',
      'a partial overlap',
    );
  }
  return out;
}

/** The gradient is written where the logits are. */
function samePlace(out: Logits, logits: Logits): void {
  const name = 'gradient.out';
  if (!(logits instanceof DeviceTensor)) {
    if (out instanceof DeviceTensor) throw badArgument('ERR_DTYPE', name, 'host memory, as the logits', describe(out));
  } else if (!(out instanceof DeviceTensor)) {
    throw badArgument('ERR_DTYPE', name, 'a DeviceTensor, as the logits', describe(out));
  } else if (out.device !== logits.device) {
    throw badArgument('ERR_BACKEND', name, "a tensor of the logits' device", 'one of another Device');
  }
}

/** A view's memory: whose it is, where it starts there, and how long it is, in bytes. */
function extent({ data, dtype, tokens, vocab, rowStride }: LogitsView): { of: unknown; start: number; bytes: number } {
  if (ArrayBuffer.isView(data)) return { of: data.buffer, start: data.byteOffset, bytes: data.byteLength };
  const elements = tokens === 0 ? 0 : (tokens - 1) * rowStride + vocab;
  return { of: 'device', start: Number(data.pointer), bytes: elements * (dtype === DTYPE_CODES.f32 ? 4 : 2) };
}

function sameMemory(a: LogitsView, b: LogitsView): boolean {
  const [first, second] = [extent(a), extent(b)];
  return first.of === second.of && first.start === second.start && a.rowStride === b.rowStride;
}

function overlaps(a: LogitsView, b: LogitsView): boolean {
  const [first, second] = [extent(a), extent(b)];
  return (
    first.of === second.of && first.start < second.start + second.bytes && second.start < first.start + first.bytes
  );
}

function newGradient({ data, source, dtype, tokens, vocab }: LogitsView): LogitsView {
  if (source instanceof DeviceTensor) {
    return deviceView('gradient', source.device.empty([tokens, vocab], source.dtype));
  }
  const length = tokens * vocab;
  const fresh = preparedForWriting(
    tag(data) === 'Float32Array'
      ? newArray('gradient', Float32Array, length)
      : newArray('gradient', Uint16Array, length),
  );
  if (ArrayBuffer.isView(source))
    return { data: fresh, dtype, tokens, vocab, rowStride: vocab, source: likeSource(source, fresh) };
  const name = (Object.keys(DTYPE_CODES) as DType[]).find((key) => DTYPE_CODES[key] === dtype);
  const tensor: HostTensor = {
    data: likeSource(source.data, fresh),
    shape: [tokens, vocab],
    dtype: name,
    rowStride: vocab,
  };
  return { data: fresh, dtype, tokens, vocab, rowStride: vocab, source: tensor };
}

/** Half-precision arrays come back as what they came in. */
function likeSource<A extends HostLogits>(source: A, fresh: HostLogits): A {
  if (tag(source) !== HALF_ARRAY) return fresh as A;
  const HalfArray = source.constructor as new (buffer: ArrayBufferLike) => A;
  return new HalfArray(fresh.buffer);
}
