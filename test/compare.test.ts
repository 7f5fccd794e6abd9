import { describe, expect, test } from 'vitest';
import { normError } from '../bench/problems/float64.js';
import { expectClose, expectCloseNumber, expectLogProbsClose } from './support/compare.js';

describe('the comparator', () => {
  test('measures the norm of the difference', () => {
    expect(normError([3, 4], [3, 4])).toBe(0);
    expect(normError([3, 9], [3, 4])).toBe(1);
    expect(normError([0.5], [0])).toBe(0.5);
  });

  test.each([
    ['NaN in the result', [NaN, 1], [0, 1]],
    ['NaN in the expectation', [0, 1], [NaN, 1]],
    ['NaN in both', [NaN], [NaN]],
    ['an infinity', [Infinity], [1]],
    ['an error beside an infinity in both', [Infinity, 2], [Infinity, 1]],
    ['a missing value', [1], [1, 2]],
    ['a wrong value', [1.1], [1]],
  ])('fails on %s', (_name, actual, expected) => {
    expect(() => expectClose(actual, expected, 1e-3)).toThrow();
  });

  test('fails on NaN for numbers and log-probs', () => {
    expect(() => expectCloseNumber(NaN, 1, 1)).toThrow();
    expect(() => expectCloseNumber(1, NaN, 1)).toThrow();
    expect(() => expectLogProbsClose([NaN], [1])).toThrow();
    expect(() => expectLogProbsClose([1.00001], [1])).toThrow();
  });

  // test/support/setup.ts has toEqual compare typed arrays by sameElements.
  test.each([
    ['a wrong value', Float32Array.of(1, 2), Float32Array.of(1, 3)],
    ['a missing value', Float32Array.of(1), Float32Array.of(1, 2)],
    ['another type', Float32Array.of(1), Float64Array.of(1)],
    ['-0 for 0', Float64Array.of(-0), Float64Array.of(0)],
    ['NaN for a number', Float64Array.of(NaN), Float64Array.of(1)],
    ['a list', Float64Array.of(1), [1]],
  ])('toEqual of typed arrays fails on %s', (_name, actual, expected) => {
    expect(actual).toEqual(actual.slice());
    expect(() => expect(actual).toEqual(expected)).toThrow();
    expect(() => expect({ in: [actual] }).toEqual({ in: [expected] })).toThrow();
  });
});
