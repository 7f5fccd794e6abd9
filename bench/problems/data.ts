// Logits to measure on: seeded normal random numbers in every dtype.
import type { DType, HostTensor } from '../../lib/index.js';
import { bf16ToNumber, f16ToNumber } from '../../lib/reference/float16.js';
import { Random } from './random.js';

/** [T, V] */
export interface TokenShape {
  readonly tokens: number;
  readonly vocab: number;
}

export interface TokenProblem {
  readonly shape: TokenShape;
  readonly targets: Int32Array; // [T]
  readonly upstream: Float64Array; // [T] dL/dlogProbs, each a float32 value
  readonly logits: Float32Array; // [T, V] the values in float32
}

export type Elements = Float32Array | Uint16Array;

/** Standard deviation of the logits, about that of a language model's. */
export const LOGIT_DEVIATION = 3;
const BYTES: Record<DType, number> = { f32: 4, bf16: 2, f16: 2 };

export const bytesPerElement = (dtype: DType): number => BYTES[dtype];

export function createProblem(shape: TokenShape, seed: number): TokenProblem {
  const { tokens, vocab } = shape;
  const random = new Random(seed);
  const logits = new Float32Array(tokens * vocab);
  random.fillNormal(logits, LOGIT_DEVIATION);
  const upstream = new Float32Array(tokens);
  random.fillNormal(upstream);
  const targets = Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab));
  return { shape, targets, upstream: Float64Array.from(upstream), logits };
}

/**
 * The logits in another dtype, rounded to nearest even. By their bits: the library's conversion of single numbers would take
 * seconds for the tens of millions here.
 */
export function roundTo(logits: Float32Array, dtype: DType): Elements {
  if (dtype === 'f32') return logits;
  const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  const out = new Uint16Array(logits.length);
  const round = dtype === 'bf16' ? bf16Bits : f16Bits;
  for (let i = 0; i < out.length; i++) out[i] = round(bits[i], logits[i]);
  return out;
}

function bf16Bits(bits: number): number {
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** For magnitudes below 65504, as those of normal logits are. */
function f16Bits(bits: number, value: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude < 0x38800000) return sign | roundHalfEven(Math.abs(value) * 2 ** 24); // subnormal
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** Elements [begin, end) as float64; all of them by default. */
export function widen(data: Elements, dtype: DType, begin = 0, end = data.length): Float64Array {
  if (dtype === 'f32') return Float64Array.from(data.subarray(begin, end));
  return Float64Array.from(data.subarray(begin, end), dtype === 'bf16' ? bf16ToNumber : f16ToNumber);
}

/** Whether every element is finite. */
export function allFinite(data: Elements | Float64Array, dtype: DType | 'f64'): boolean {
  if (dtype === 'f32' || dtype === 'f64') {
    for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return false;
    return true;
  }
  const exponent = dtype === 'bf16' ? 0x7f80 : 0x7c00;
  for (let i = 0; i < data.length; i++) if ((data[i] & exponent) === exponent) return false;
  return true;
}

/** One [T, V] array per slot, carved from one allocation, each a copy of `source`. */
export function slotCopies({ tokens, vocab }: TokenShape, dtype: DType, source: Elements, slots: number): HostTensor[] {
  const size = tokens * vocab;
  const arena = dtype === 'f32' ? new Float32Array(size * slots) : new Uint16Array(size * slots);
  return Array.from({ length: slots }, (_, k) => {
    const data = arena.subarray(k * size, (k + 1) * size);
    data.set(source);
    return { data, shape: [tokens, vocab], dtype };
  });
}
