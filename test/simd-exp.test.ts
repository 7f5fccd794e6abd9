// The exponential that the native token level rests on, on this run's instruction-set path.
import { expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { nativeAddon } from '../lib/backend/addon.js';

const native = nativeAddon();
if ('reason' in native) throw new Error(`the addon is absent: ${native.reason}`);
const addon = native;

function simdExp(x: Float32Array): Float32Array {
  const out = new Float32Array(x.length);
  addon.simdExp({ x, out, count: x.length });
  return out;
}

test('this run is on the path that was asked for', () => {
  if (process.env.RLVR_SIMD !== undefined) expect(addon.cpuInfo().simd).toBe(process.env.RLVR_SIMD);
  expect(['avx512', 'avx2', 'neon', 'portable']).toContain(addon.cpuInfo().simd);
});

test('within 2 ulp of exp from 0 down to the smallest normal float32', () => {
  const random = new Random(1);
  const count = 1 << 21;
  const x = Float32Array.from({ length: count }, (_, i) =>
    i % 2 ? -87.3 * random.uniform() : -1.5 * random.uniform() ** 2,
  );
  const out = simdExp(x);
  let worst = 0;
  for (let i = 0; i < count; i++) {
    const exact = Math.exp(x[i]);
    const ulp = 2 ** (Math.floor(Math.log2(exact)) - 23);
    const error = Math.abs(out[i] - exact) / ulp;
    worst = error <= worst ? worst : error; // NaN replaces it
  }
  expect(worst).toBeLessThan(2);
});

test('exact at 0; 0 at and far below the underflow; NaN stays NaN', () => {
  expect(Array.from(simdExp(Float32Array.of(0, -0, -88.5, -1e30, -Infinity, NaN)))).toEqual([1, 1, 0, 0, 0, NaN]);
});
