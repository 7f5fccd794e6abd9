// Logits to measure on: seeded normal random numbers in every dtype, in several copies that together outgrow the cache.

/**
 * @typedef {import('rlvr-kernels').DType} DType
 * @typedef {import('rlvr-kernels').HostTensor} HostTensor
 * @typedef {{ tokens: number, vocab: number }} Shape
 * @typedef {object} Problem
 * @property {Shape} shape
 * @property {number} slots copies of every [T, V] array; consecutive calls use different ones
 * @property {Int32Array} targets [T]
 * @property {Float64Array} upstream [T] dL/dlogProbs, each a float32 value
 * @property {Float32Array} logits [T, V] the values in float32
 */

/** Spread of the logits, about that of a language model's. */
export const LOGIT_DEVIATION = 3;
const BYTES = { f32: 4, bf16: 2, f16: 2 };

/** @param {DType} dtype */
export const bytesPerElement = (dtype) => BYTES[dtype];

/** @param {Shape} shape */
export const shapeName = ({ tokens, vocab }) => `${tokens}x${vocab}`;

/** Uniform in (0, 1): mulberry32. @param {number} seed @returns {() => number} */
function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

/** @param {Float32Array} out @param {number} deviation @param {() => number} uniform */
function fillNormal(out, deviation, uniform) {
  for (let i = 0; i < out.length; i += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle);
  }
}

/**
 * @param {Shape} shape
 * @param {{ seed: number, cacheBytes: number }} options
 * @returns {Problem}
 */
export function createProblem(shape, { seed, cacheBytes }) {
  const { tokens, vocab } = shape;
  const uniform = uniforms(seed);
  const logits = new Float32Array(tokens * vocab);
  fillNormal(logits, LOGIT_DEVIATION, uniform);
  const upstream = new Float32Array(tokens);
  fillNormal(upstream, 1, uniform);
  const targets = Int32Array.from({ length: tokens }, () => Math.floor(uniform() * vocab));
  const smallest = tokens * vocab * BYTES.bf16;
  const slots = Math.min(256, Math.max(2, Math.ceil((4 * cacheBytes) / smallest)));
  return { shape, slots, targets, upstream: Float64Array.from(upstream), logits };
}

/** The logits in another dtype, rounded to nearest even. @param {Float32Array} logits @param {DType} dtype */
export function roundTo(logits, dtype) {
  if (dtype === 'f32') return logits;
  const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  const out = new Uint16Array(logits.length);
  const round = dtype === 'bf16' ? bf16Bits : f16Bits;
  for (let i = 0; i < out.length; ++i) out[i] = round(bits[i], logits[i]);
  return out;
}

/** @param {number} bits */
function bf16Bits(bits) {
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** For |value| below 65504, which normal logits are. @param {number} bits @param {number} value */
function f16Bits(bits, value) {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude < 0x38800000) return sign | roundHalfEven(Math.abs(value) * 2 ** 24); // subnormal
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** @param {number} x */
function roundHalfEven(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** Elements [begin, end) as float64. @param {Float32Array | Uint16Array} data @param {DType} dtype @param {number} begin @param {number} end */
export function widen(data, dtype, begin, end) {
  const widenOne = { f32: (/** @type {number} */ x) => x, bf16: bf16Value, f16: f16Value }[dtype];
  return Float64Array.from({ length: end - begin }, (_, i) => widenOne(data[begin + i]));
}

const scratch = new DataView(new ArrayBuffer(4));

/** @param {number} bits */
function bf16Value(bits) {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** @param {number} bits */
function f16Value(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Whether every element is finite. @param {Float32Array | Float64Array | Uint16Array} data @param {DType | 'f64'} dtype */
export function allFinite(data, dtype) {
  if (dtype === 'f32' || dtype === 'f64') return data.every((/** @type {number} */ x) => Number.isFinite(x));
  const exponent = dtype === 'bf16' ? 0x7f80 : 0x7c00;
  return data.every((/** @type {number} */ bits) => (bits & exponent) !== exponent);
}

/**
 * One [T, V] array per slot, carved from one allocation, each a copy of `source`.
 * @param {Problem} problem
 * @param {DType} dtype
 * @param {Float32Array | Uint16Array} source
 * @returns {HostTensor[]}
 */
export function slotCopies({ shape: { tokens, vocab }, slots }, dtype, source) {
  const size = tokens * vocab;
  const arena = dtype === 'f32' ? new Float32Array(size * slots) : new Uint16Array(size * slots);
  return Array.from({ length: slots }, (_, k) => {
    const data = arena.subarray(k * size, (k + 1) * size);
    data.set(source);
    return { data, shape: [tokens, vocab], dtype };
  });
}
