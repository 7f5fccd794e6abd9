// Scalar conversions of the 16-bit logits types. Rounding is to nearest, ties to even.

const scratch = new DataView(new ArrayBuffer(4));

/** bfloat16 bits to the number they stand for. */
export function bf16ToNumber(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** The nearest bfloat16, as bits. */
export function numberToBf16(value: number): number {
  return roundToFormat(value, 8, 7);
}

/** IEEE half-precision bits to the number they stand for. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/** The nearest half-precision number, as bits. */
export function numberToF16(value: number): number {
  return roundToFormat(value, 5, 10);
}

// Bits of the nearest number with the given widths of exponent and mantissa. Every step is exact in float64, so the
// value is rounded once.
function roundToFormat(value: number, exponentBits: number, mantissaBits: number): number {
  const signBit = value < 0 || Object.is(value, -0) ? 1 << (exponentBits + mantissaBits) : 0;
  const infinity = ((1 << exponentBits) - 1) << mantissaBits;
  if (Number.isNaN(value)) return infinity | (1 << (mantissaBits - 1));
  const magnitude = Math.abs(value);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (magnitude === 0) return signBit;
  if (magnitude >= 2 ** (bias + 1)) return signBit | infinity;
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), 1 - bias);
  const steps = roundHalfEven(magnitude / 2 ** (exponent - mantissaBits)); // log2 may be off by one: the carry fixes it
  const bits = steps + (exponent - 1 + bias) * 2 ** mantissaBits;
  return signBit | Math.min(bits, infinity);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest === 0.5) return floor + (floor % 2);
  return rest > 0.5 ? floor + 1 : floor;
}
