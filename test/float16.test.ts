import { describe, expect, test } from 'vitest';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../lib/reference/float16.js';

const range = (begin: number, end: number, step = 1) =>
  Array.from({ length: Math.ceil((end - begin) / step) }, (_, i) => begin + step * i);

describe.each([
  ['bf16', bf16ToNumber, numberToBf16],
  ['f16', f16ToNumber, numberToF16],
] as const)('%s', (_name, toNumber, toBits) => {
  // One list of failures, not an `expect` for each of the many thousands of cases.
  test('every number survives the round trip', () => {
    const lost = range(0, 65536).filter((bits) => {
      const value = toNumber(bits);
      return Number.isNaN(value) ? !Number.isNaN(toNumber(toBits(value))) : toBits(value) !== bits;
    });
    expect(lost).toEqual([]);
  });

  test('halfway rounds to even, beyond it up, before it down', () => {
    const wrong = range(0, 0x7000, 13).filter((bits) => {
      const [low, high] = [toNumber(bits), toNumber(bits + 1)];
      const middle = (low + high) / 2;
      const little = (high - low) * 1e-6;
      return (
        toBits(middle) !== (bits % 2 === 0 ? bits : bits + 1) ||
        toBits(middle + little) !== bits + 1 ||
        toBits(-(middle - little)) !== (bits | 0x8000)
      );
    });
    expect(wrong).toEqual([]);
  });
});

test('known values', () => {
  expect([1, -2, 65504, 65520, 6e-8, Infinity].map(numberToF16)).toEqual([0x3c00, 0xc000, 0x7bff, 0x7c00, 1, 0x7c00]);
  expect([1, -2, 3.4e38, 3.39e38, -Infinity].map(numberToBf16)).toEqual([0x3f80, 0xc000, 0x7f80, 0x7f7f, 0xff80]);
});
