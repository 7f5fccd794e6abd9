import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AdaptiveKl } from '../lib/index.js';
import { rlvrError } from './support/errors.js';

describe('AdaptiveKl', () => {
  const parameters = { klCoef: 0.2, target: 6, horizon: 10_000 };

  test('follows the error of the KL, which is cut to a fifth', () => {
    const controller = new AdaptiveKl(parameters);
    expect(controller.klCoef).toBe(0.2);
    expect(controller.update(6, 256)).toBe(0.2); // on target
    expect(controller.update(6.6, 500)).toBeCloseTo(0.2 * (1 + 0.1 * 0.05), 14);
    expect(controller.update(600, 500)).toBeCloseTo(0.2 * 1.005 * 1.01, 14);
    expect(controller.update(-3, 10_000)).toBeCloseTo(0.2 * 1.005 * 1.01 * 0.8, 14);
    expect(controller.update(1, 0)).toBe(controller.klCoef);
  });

  test('the horizon is 10000 unless it is given', () => {
    const { klCoef, target } = parameters;
    expect(new AdaptiveKl({ klCoef, target }).update(60, 1000)).toBe(new AdaptiveKl(parameters).update(60, 1000));
    expect(new AdaptiveKl({ klCoef, target, horizon: undefined }).update(60, 1000)).toBeCloseTo(0.204, 14);
  });

  test('goes on from a saved coefficient', () => {
    const steps = fc.array(fc.tuple(fc.double({ min: -20, max: 20, noNaN: true }), fc.nat(10_000)));
    fc.assert(
      fc.property(steps, steps, (before, after) => {
        const controller = new AdaptiveKl(parameters);
        for (const [kl, sequences] of before) controller.update(kl, sequences);
        const other = new AdaptiveKl({ ...parameters, klCoef: controller.klCoef });
        for (const [kl, sequences] of after) {
          const next = controller.update(kl, sequences);
          expect(other.update(kl, sequences)).toBe(next);
          expect(next).toBeGreaterThan(0);
        }
      }),
    );
  });

  test('brings a KL that follows the coefficient to its target', () => {
    const controller = new AdaptiveKl({ klCoef: 1, target: 0.05, horizon: 100 });
    const kl = () => 0.01 / controller.klCoef; // the stronger the penalty, the smaller
    for (let step = 0; step < 300; step++) controller.update(kl(), 32);
    expect(kl()).toBeCloseTo(0.05, 6);
  });

  test('stays a positive number at the ends of its range', () => {
    const controller = new AdaptiveKl({ klCoef: Number.MAX_VALUE, target: 1, horizon: 1 });
    expect(controller.update(9, 1)).toBe(Number.MAX_VALUE);
    expect(new AdaptiveKl({ klCoef: Number.MIN_VALUE, target: 1, horizon: 1 }).update(-9, 1)).toBe(Number.MIN_VALUE);
  });

  test.each<[parameters: unknown, code: string, message: string]>([
    [undefined, 'ERR_DTYPE', 'parameters: expected an object, got undefined'],
    [{ ...parameters, klCoef: 0 }, 'ERR_RANGE', 'klCoef: expected a finite number above 0, got 0'],
    [{ ...parameters, target: undefined }, 'ERR_RANGE', 'target: expected a number, got undefined'],
    [{ ...parameters, horizon: Infinity }, 'ERR_RANGE', 'horizon: expected a finite number above 0, got Infinity'],
    [{ ...parameters, horizen: 1 }, 'ERR_OPTION', 'horizen: no such option of AdaptiveKl; did you mean horizon?'],
  ])('bad parameters %#', (given, code, message) => {
    expect(() => new AdaptiveKl(given as never)).toThrow(rlvrError(code, message));
  });

  test('a bad step changes nothing', () => {
    const controller = new AdaptiveKl(parameters);
    expect(() => controller.update(NaN, 8)).toThrow('kl: expected a finite number, got NaN');
    expect(() => controller.update(1, -1)).toThrow('sequences: expected a finite number at least 0');
    expect(() => controller.update(1, 10_001)).toThrow(
      'sequences: expected a finite number at least 0 and at most 10000',
    );
    expect(controller.klCoef).toBe(0.2);
  });
});
