// The yardsticks of linear-log-probs on this run's instruction-set path: its matrix product alone, and multiply-adds in registers.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { nativeAddon } from '../lib/backend/addon.js';

const native = nativeAddon();
if ('reason' in native) throw new Error(`the addon is absent: ${native.reason}`);
const addon = native;

/** One element; below, at and above a panel and the depth that is summed in registers; more than one tile of columns or of depth. */
const SIZES = [
  [1, 1, 1],
  [5, 33, 3],
  [29, 64, 256],
  [14, 31, 257],
  [225, 1030, 70],
  [3, 1025, 2050],
] as const;

/** Small whole numbers: their sums of products are exact in float32. */
function wholeNumbers(count: number, random: Random): Float32Array {
  return Float32Array.from({ length: count }, () => Math.floor(random.uniform() * 17) - 8);
}

describe.each([false, true])('matrixProduct, left transposed: %s', (leftTransposed) => {
  test.each([false, true])('right transposed: %s', (rightTransposed) => {
    for (const [rows, columns, depth] of SIZES) {
      const random = new Random(rows + columns);
      const left = wholeNumbers(rows * depth, random);
      const right = wholeNumbers(depth * columns, random);
      const out = new Float32Array(rows * columns).fill(Number.NaN);
      addon.matrixProduct({ left, right, leftTransposed, rightTransposed, rows, columns, depth, out });
      const expected = new Float32Array(rows * columns);
      for (let i = 0; i < rows; i++) {
        for (let k = 0; k < depth; k++) {
          const x = leftTransposed ? left[k * rows + i] : left[i * depth + k];
          for (let j = 0; j < columns; j++) {
            expected[i * columns + j] += x * (rightTransposed ? right[j * depth + k] : right[k * columns + j]);
          }
        }
      }
      expect(Buffer.from(out.buffer).equals(Buffer.from(expected.buffer)), `${[rows, columns, depth]}`).toBe(true);
    }
  });
});

test('a product of no depth is 0, and one without elements writes nothing', () => {
  const empty = new Float32Array(0);
  const product = (rows: number, columns: number, depth: number, rightTransposed: boolean) => {
    const out = new Float32Array(4).fill(7);
    const sizes = { rows, columns, depth };
    addon.matrixProduct({ left: empty, right: empty, leftTransposed: false, rightTransposed, ...sizes, out });
    return Array.from(out);
  };
  for (const transposed of [false, true]) {
    expect(product(1, 4, 0, transposed)).toEqual([0, 0, 0, 0]);
    expect(product(0, 0, 9, transposed)).toEqual([7, 7, 7, 7]);
  }
});

test('multiplyAdd counts a product and a sum on every lane of several vectors', () => {
  const perStep = addon.multiplyAdd({ steps: 1 });
  expect(perStep % 16).toBe(0);
  expect(perStep).toBeGreaterThanOrEqual(2 * 4 * 6); // four lanes or more of six vectors or more
  expect(addon.multiplyAdd({ steps: 12_345 })).toBe(12_345 * perStep);
});
