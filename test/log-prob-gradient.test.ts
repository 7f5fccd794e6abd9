import { describe, expect, test } from 'vitest';
import {
  type LogProbGradientOptions,
  ratioScoresBackward,
  ratioScoresBackwardSync,
  sequenceLogProbsBackward,
  sequenceLogProbsBackwardSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';

const cuSeqlens = Int32Array.of(0, 3, 3, 5);
const gradScores = Float64Array.of(3, 7, -2);
const tokenCounts = Float64Array.of(2, 0, 2);
const mask = Uint8Array.of(1, 0, 1, 1, 1);
const scoreGrads = Float64Array.of(0.5, 0, 0.5, 0.25, 0.25);

// Both ops, with inputs that may be replaced.
const OPS = {
  sequenceLogProbsBackward: {
    run: (options: LogProbGradientOptions, inputs = {}) =>
      sequenceLogProbsBackward({ gradScores, tokenCounts, cuSeqlens, mask, ...inputs }, options),
    runSync: (options: LogProbGradientOptions, inputs = {}) =>
      sequenceLogProbsBackwardSync({ gradScores, tokenCounts, cuSeqlens, mask, ...inputs }, options),
    expected: [1.5, 0, 1.5, -1, -1],
  },
  ratioScoresBackward: {
    run: (options: LogProbGradientOptions, inputs = {}) =>
      ratioScoresBackward({ gradScores, scoreGrads, cuSeqlens, ...inputs }, options),
    runSync: (options: LogProbGradientOptions, inputs = {}) =>
      ratioScoresBackwardSync({ gradScores, scoreGrads, cuSeqlens, ...inputs }, options),
    expected: [1.5, 0, 1.5, -0.5, -0.5],
  },
};

describeBackends('the gradient of log-probs', (backend) => {
  describe.each(Object.entries(OPS))('%s', (_name, { run, runSync, expected }) => {
    test('goes to a new array, or to yours and nowhere beside it', async () => {
      for (const gradient of [undefined, 'new'] as const)
        expect(Array.from(runSync({ backend, gradient }).gradLogProbs)).toEqual(expected);
      const around = new Float64Array(7).fill(8);
      const out = around.subarray(1, 6);
      expect(runSync({ backend, gradient: { out } }).gradLogProbs).toBe(out);
      expect(Array.from(around)).toEqual([8, ...expected, 8]);
      around.fill(9);
      expect((await run({ backend, gradient: { out } })).gradLogProbs).toBe(out);
      expect(Array.from(around)).toEqual([9, ...expected, 9]);
    });

    const shared = new Float64Array(8).fill(1);
    test.each<[string, unknown, RegExp]>([
      ['neither', 'in-place', /^gradient: expected 'new' or { out }, got "in-place"/],
      ['no array', { out: undefined }, /^gradient\.out: expected Float64Array/],
      ['float32', { out: new Float32Array(5) }, /^gradient\.out: expected Float64Array, got Float32Array/],
      ['too short', { out: new Float64Array(4) }, /^gradient\.out: expected length 5 .*got length 4/],
      [
        'an overlap',
        { out: shared.subarray(2, 7) },
        /^gradient\.out: expected memory apart from gradScores, got an overlap$/,
      ],
    ])('refuses %s', async (_what, gradient, message) => {
      const options = { backend, gradient } as LogProbGradientOptions;
      const inputs = { gradScores: shared.subarray(0, 3) };
      expect(() => runSync(options, inputs)).toThrow(message);
      await expect(run(options, inputs)).rejects.toThrow(message);
      expect(Array.from(shared)).toEqual(new Array(8).fill(1));
    });
  });
});
