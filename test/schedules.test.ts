import { describe, expect, test } from 'vitest';
import { cosineMargin } from '../lib/index.js';

describe('cosineMargin', () => {
  const margin = cosineMargin({ target: 0.4, warmup: 0.5 });

  test('grows from 0 to the target over the warm-up, and stays', () => {
    expect(margin(0)).toBe(0);
    expect(margin(0.25)).toBeCloseTo(0.2, 12);
    expect(margin(0.125)).toBeCloseTo(0.2 * (1 - Math.SQRT1_2), 12);
    expect([0.5, 0.7, 1].map(margin)).toEqual([0.4, 0.4, 0.4]);
  });

  test('defaults to no margin', () => {
    expect(cosineMargin()(0.5)).toBe(0);
  });

  test('bad input is named', () => {
    expect(() => cosineMargin({ warmup: 0 })).toThrow(/warmup: expected .* above 0.* got 0/);
    expect(() => cosineMargin({ target: NaN })).toThrow(/target: expected/);
    expect(() => margin(1.5)).toThrow(/progress: expected .* at most 1, got 1.5/);
  });
});
