import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  sequenceLogProbs,
  sequenceLogProbsBackward,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose } from './support/compare.js';
import { randomBatch } from './support/random.js';

describeBackends('sequence-log-probs', (backend) => {
  test('means over unmasked tokens; empty and masked sequences score 0', () => {
    const logProbs = Float64Array.of(-1, -2, -3, NaN, -5, -Infinity);
    const cuSeqlens = Int32Array.of(0, 2, 2, 4, 5, 6);
    const mask = Uint8Array.of(1, 1, 1, 0, 1, 0);
    const { scores, tokenCounts } = sequenceLogProbsSync({ logProbs, cuSeqlens, mask }, { backend });
    expect(Array.from(scores)).toEqual([-1.5, 0, -3, -5, 0]);
    expect(Array.from(tokenCounts)).toEqual([2, 0, 1, 1, 0]);
    const gradScores = Float64Array.of(2, 7, 3, 4, 5);
    const { gradLogProbs } = sequenceLogProbsBackwardSync({ gradScores, tokenCounts, cuSeqlens, mask }, { backend });
    expect(Array.from(gradLogProbs)).toEqual([1, 1, 3, 0, 4, 0]);
  });

  test('accepts float32 log-probs', () => {
    const inputs = { logProbs: Float32Array.of(-0.5, -0.25), cuSeqlens: Int32Array.of(0, 2) };
    expect(Array.from(sequenceLogProbsSync(inputs, { backend }).scores)).toEqual([-0.375]);
  });

  test('random batches: the definition, by hand; the same bits async', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const { oldLogProbs: logProbs, cuSeqlens, mask } = randomBatch(seed, { vocab: 5, groups: 6 });
        const inputs = { logProbs, cuSeqlens, mask };
        const { scores, tokenCounts } = sequenceLogProbsSync(inputs, { backend });
        const expected = Array.from(scores, (_, i) => {
          const kept = Array.from(logProbs.subarray(cuSeqlens[i], cuSeqlens[i + 1])).filter(
            (_l, k) => mask[cuSeqlens[i] + k],
          );
          return kept.reduce((a, b) => a + b, 0) / Math.max(kept.length, 1);
        });
        expectClose(scores, expected, 1e-14);
        expect((await sequenceLogProbs(inputs, { backend })).scores).toEqual(scores);
        const backward = {
          gradScores: expected.length ? Float64Array.from(expected) : new Float64Array(0),
          tokenCounts,
          cuSeqlens,
          mask,
        };
        const { gradLogProbs } = sequenceLogProbsBackwardSync(backward, { backend });
        expect((await sequenceLogProbsBackward(backward, { backend })).gradLogProbs).toEqual(gradLogProbs);
        // s is linear: sum_t g_t l_t = sum_i ds_i s_i
        const left = gradLogProbs.reduce((sum, g, t) => sum + (mask[t] ? g * logProbs[t] : 0), 0);
        const right = scores.reduce((sum, s, i) => sum + s * expected[i], 0);
        expectClose([left], [right], 1e-12);
      }),
      { numRuns: 30 },
    );
  });
});
