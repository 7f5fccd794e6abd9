import { describe, expect, test } from 'vitest';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../lib/reference/float16.js';

describe.each([
  ['bf16', bf16ToNumber, numberToBf16],
  ['f16', f16ToNumber, numberToF16],
] as const)('%s', (_name, toNumber, toBits) => {
  test('every number survives the round trip', () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = toNumber(bits);
      if (!Number.isNaN(value)) expect(toBits(value)).toBe(bits);
      else expect(toNumber(toBits(value))).toBeNaN();
    }
  });

  test('halfway rounds to even, beyond it up, before it down', () => {
    for (let bits = 0; bits < 0x7000; bits += 13) {
      const [low, high] = [toNumber(bits), toNumber(bits + 1)];
      const middle = (low + high) / 2;
      expect(toBits(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
      expect(toBits(middle + (high - low) * 1e-6)).toBe(bits + 1);
      expect(toBits(-(middle - (high - low) * 1e-6))).toBe(bits | 0x8000);
    }
  });
});

test('known values', () => {
  expect([1, -2, 65504, 65520, 6e-8, Infinity].map(numberToF16)).toEqual([0x3c00, 0xc000, 0x7bff, 0x7c00, 1, 0x7c00]);
  expect([1, -2, 3.4e38, 3.39e38, -Infinity].map(numberToBf16)).toEqual([0x3f80, 0xc000, 0x7f80, 0x7f7f, 0xff80]);
});
