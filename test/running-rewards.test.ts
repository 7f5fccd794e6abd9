import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RunningRewards } from '../lib/index.js';
import { expectClose } from './support/compare.js';
import { rlvrError } from './support/errors.js';

const reward = fc.double({ min: -100, max: 100, noNaN: true });
const batches = fc.array(fc.array(reward, { maxLength: 6 }), { minLength: 1, maxLength: 6 });

/** Mean and sample standard deviation, in two passes. */
function momentsOf(values: readonly number[]) {
  const mean = values.reduce((a, b) => a + b, 0) / Math.max(values.length, 1);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, std: values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1)) };
}

function seen(all: readonly (readonly number[])[], options?: ConstructorParameters<typeof RunningRewards>[0]) {
  const running = new RunningRewards(options);
  for (const values of all) running.update(Float64Array.from(values));
  return running;
}

describe('RunningRewards', () => {
  test('knows mean and standard deviation of everything, however it was cut into batches', () => {
    fc.assert(
      fc.property(batches, (all) => {
        const running = seen(all);
        const { mean, std } = momentsOf(all.flat());
        expect(running.state.count).toBe(all.flat().length);
        expect(running.mean).toBeCloseTo(mean, 10);
        expect(running.std).toBeCloseTo(std, 6);
      }),
    );
  });

  test('is exact where a sum of squares would have lost all digits', () => {
    const running = seen([[1e9, 1e9 + 1], [1e9 + 2]]);
    expect([running.mean, running.std]).toEqual([1e9 + 1, 1]);
  });

  test('brings rewards to mean 0 and deviation 1', () => {
    fc.assert(
      fc.property(batches, (all) => {
        const running = seen(all);
        if (running.std < 1e-3) return;
        const values = running.normalized(Float64Array.from(all.flat()));
        const { mean, std } = momentsOf(Array.from(values));
        expect(mean).toBeCloseTo(0, 8);
        expect(std).toBeCloseTo(1, 6);
      }),
    );
  });

  test('without centring divides only', () => {
    const running = seen([[-1, 0, 1]], { center: false });
    running.update(Float32Array.of(7));
    const rewards = Float32Array.of(-2, 0, 4);
    expectClose(
      running.normalized(rewards),
      Float64Array.from(rewards, (r) => r / running.std),
      1e-15,
    );
  });

  test('equal rewards, and none, have a scale of 1', () => {
    const values = Float32Array.of(3, 5);
    expect(new RunningRewards().normalized(values)).toEqual(Float64Array.of(3, 5));
    expect(seen([[3], [3, 3], []]).normalized(values)).toEqual(Float64Array.of(0, 2));
    expect(
      seen([
        [0.1, 0.1, 0.1],
        [0.1, 0.1],
      ]).std,
    ).toBe(0);
  });

  test('goes on from a state that went through JSON, bit by bit', () => {
    fc.assert(
      fc.property(batches, batches, (before, later) => {
        const state = JSON.parse(JSON.stringify(seen(before).state));
        expect(seen(later, { state }).state).toEqual(seen([...before, ...later]).state);
      }),
    );
  });

  test('its state is a copy', () => {
    const running = seen([[1, 2]]);
    running.state.count = 99;
    expect(running.state.count).toBe(2);
  });

  test('what it refuses changes nothing', () => {
    const running = seen([[1, 2]]);
    const before = running.state;
    for (const [rewards, code, message] of [
      [new Set([1]), 'ERR_DTYPE', 'rewards: expected Float32Array or Float64Array, got Set'],
      [Float64Array.of(1, Infinity), 'ERR_NONFINITE', 'rewards: expected finite values, got Infinity at index 1'],
      [Float64Array.of(1e300), 'ERR_NONFINITE', 'rewards: expected values whose variance is finite'],
      [Float64Array.of(-1.7e308, 1.7e308), 'ERR_NONFINITE', 'rewards: expected values whose variance is finite'],
    ] as const) {
      expect(() => running.update(rewards as never)).toThrow(rlvrError(code, message));
      expect(running.state).toEqual(before);
    }
    const small = new RunningRewards({ state: { count: 2, mean: 0, squares: 1e-300 } });
    expect(() => small.normalized(Float64Array.of(0, 1e200))).toThrow(
      rlvrError('ERR_NONFINITE', 'rewards: expected values that are finite on that scale, got 1e+200 at index 1'),
    );
  });

  test.each<[options: unknown, code: string, message: string]>([
    [null, 'ERR_DTYPE', 'options: expected an object, got null'],
    [{ centre: true }, 'ERR_OPTION', 'centre: no such option of RunningRewards; did you mean center?'],
    [{ center: 1 }, 'ERR_RANGE', 'center: expected true or false, got 1'],
    [{ state: { count: 1.5, mean: 0, squares: 0 } }, 'ERR_RANGE', 'state.count: expected a whole number'],
    [{ state: { count: 1, mean: NaN, squares: 0 } }, 'ERR_RANGE', 'state.mean: expected a finite number, got NaN'],
    [{ state: { count: 1, mean: 0, squares: -1 } }, 'ERR_RANGE', 'state.squares: expected a finite number at least 0'],
    [{ state: { count: 1 } }, 'ERR_RANGE', 'state.mean: expected a number, got undefined'],
  ])('bad options %#', (options, code, message) => {
    expect(() => new RunningRewards(options as never)).toThrow(rlvrError(code, message));
  });
});
