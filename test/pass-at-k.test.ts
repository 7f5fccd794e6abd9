import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromDense, passAtK } from '../lib/index.js';
import { rlvrError } from './support/errors.js';

/** Of all ways to draw k of the answers, the share that has a right one. */
function byEnumeration(rewards: readonly number[], k: number): number {
  let [draws, passes] = [0, 0];
  for (let chosen = 0; chosen < 2 ** rewards.length; chosen++) {
    const answers = rewards.filter((_, i) => (chosen >> i) & 1);
    if (answers.length !== k) continue;
    draws++;
    if (answers.some((reward) => reward > 0)) passes++;
  }
  return passes / draws;
}

describe('passAtK', () => {
  test('is the share of draws of k answers with a right one', () => {
    const groups = fc.array(fc.array(fc.constantFrom(0, 1), { minLength: 3, maxLength: 9 }), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(groups, fc.integer({ min: 1, max: 3 }), (answers, k) => {
        const ids = answers.flatMap((group, g) => group.map(() => g));
        const result = passAtK({ rewards: Float64Array.from(answers.flat()), ...fromDense(ids) }, { k });
        const expected = answers.map((group) => byEnumeration(group, k));
        expected.forEach((value, g) => {
          expect(result.groups[g]).toBeCloseTo(value, 12);
        });
        expect(result.mean).toBeCloseTo(expected.reduce((a, b) => a + b, 0) / expected.length, 12);
      }),
    );
  });

  test('groups in any order', () => {
    const rewards = Float32Array.of(1, 0, 0, 0);
    expect(passAtK({ rewards, ...fromDense(['a', 'b', 'a', 'b']) }, { k: 1 }).groups).toEqual(Float64Array.of(0.5, 0));
  });

  test('none right is exactly 0, all right exactly 1, also of many', () => {
    const n = 5000;
    const of = (right: number, k: number) =>
      passAtK(
        { rewards: Float32Array.from({ length: n }, (_, i) => (i < right ? 1 : 0)), cuGroups: Int32Array.of(0, n) },
        { k },
      ).mean;
    expect([of(0, 1), of(0, n), of(n, 1), of(1, n)]).toEqual([0, 0, 1, 1]);
    expect(of(1, 1)).toBeCloseTo(1 / n, 15);
    expect(of(2500, 100)).toBeCloseTo(1, 12);
  });

  test('the threshold of a right answer', () => {
    const inputs = { rewards: Float32Array.of(-1, 0.5, 1), cuGroups: Int32Array.of(0, 3) };
    expect(passAtK(inputs, { k: 1, positiveThreshold: 0.5 }).mean).toBeCloseTo(1 / 3, 12);
  });

  test('no groups', () => {
    const none = { rewards: new Float32Array(0), cuGroups: Int32Array.of(0) };
    expect(passAtK(none, { k: 3 })).toEqual({ groups: new Float64Array(0), mean: 0 });
  });

  const inputs = { rewards: Float32Array.of(1, 0, 0), cuGroups: Int32Array.of(0, 1, 3) };
  test.each<[inputs: unknown, options: unknown, code: string, message: string]>([
    [inputs, { k: 2 }, 'ERR_RANGE', 'k: expected at most the 1 answers of group 0, got 2'],
    [inputs, { k: 0 }, 'ERR_RANGE', 'k: expected a whole number at least 1, got 0'],
    [inputs, { k: 1.5 }, 'ERR_RANGE', 'k: expected a whole number at least 1, got 1.5'],
    [inputs, undefined, 'ERR_RANGE', 'k: expected a number, got undefined'],
    [inputs, { k: 1, tresholt: 1 }, 'ERR_OPTION', 'tresholt: no such option of passAtK'],
    [inputs, { k: 1, positiveThreshold: NaN }, 'ERR_RANGE', 'positiveThreshold: expected a finite number, got NaN'],
    [{ ...inputs, rewards: [1, 0, true] }, { k: 1 }, 'ERR_DTYPE', 'rewards: expected numbers, got true at index 2'],
    [{ ...inputs, rewards: Float32Array.of(1, NaN, 0) }, { k: 1 }, 'ERR_NONFINITE', 'rewards: expected finite values'],
    [{ ...inputs, cuGroups: Int32Array.of(0, 2) }, { k: 1 }, 'ERR_SHAPE', 'cuGroups: expected a last offset of 3 (N)'],
    [
      { ...inputs, groupOrder: Int32Array.of(0, 0, 1) },
      { k: 1 },
      'ERR_RANGE',
      'groupOrder: expected each sequence once',
    ],
    [undefined, { k: 1 }, 'ERR_DTYPE', 'inputs: expected an object, got undefined'],
  ])('bad input %#', (given, options, code, message) => {
    expect(() => passAtK(given as never, options as never)).toThrow(rlvrError(code, message));
  });
});
