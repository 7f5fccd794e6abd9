// Batches on both sides of the sizes up to which the cuda backend does the small levels with one block (native/cuda/phases.h):
// 128 sequences, 16,384 tokens, 4,096 with ratio scores, 64 groups. The results are the same bits on either.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  advantageObjectiveSync,
  type BackendName,
  conspoSync,
  groupInfoNCESync,
  grpoSync,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
  tokenLogProbsBackwardSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { randomBatch } from './support/random.js';

/** Sequences of one length, with what the first eighth of them is alone. */
function alike(sequences: number, length: number) {
  const random = new Random(sequences);
  const normals = (count: number, scale: number) => Float64Array.from({ length: count }, () => scale * random.normal());
  const tokens = sequences * length;
  const whole = {
    logProbs: normals(tokens, 1),
    oldLogProbs: normals(tokens, 1),
    mask: Uint8Array.from({ length: tokens }, () => (random.uniform() < 0.9 ? 1 : 0)),
    cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, i) => i * length),
    gradScores: normals(sequences, 1),
  };
  const few = Math.floor(sequences / 8);
  const part = {
    logProbs: whole.logProbs.slice(0, few * length),
    oldLogProbs: whole.oldLogProbs.slice(0, few * length),
    mask: whole.mask.slice(0, few * length),
    cuSeqlens: whole.cuSeqlens.slice(0, few + 1),
    gradScores: whole.gradScores.slice(0, few),
  };
  return { whole, part };
}

describeBackends('many sequences', (backend) => {
  describe.each([
    ['129 of 2 tokens', 129, 2],
    ['8 of 2,050 tokens', 8, 2050],
  ])('%s: an eighth of them alone gets the same bits', (_name, sequences, length) => {
    const { whole, part } = alike(sequences, length);

    test('sequence-log-probs', () => {
      const [all, some] = [whole, part].map((batch) => {
        const { scores, tokenCounts } = sequenceLogProbsSync(batch, { backend });
        return { scores, tokenCounts, ...sequenceLogProbsBackwardSync({ ...batch, tokenCounts }, { backend }) };
      });
      expect(all.scores.slice(0, some.scores.length)).toEqual(some.scores);
      expect(all.tokenCounts.slice(0, some.tokenCounts.length)).toEqual(some.tokenCounts);
      expect(all.gradLogProbs.slice(0, some.gradLogProbs.length)).toEqual(some.gradLogProbs);
    });

    test('ratio-scores', () => {
      const [all, some] = [whole, part].map((batch) => {
        const { scores, scoreGrads } = ratioScoresSync(batch, { score: { kind: 'softGate' }, backend });
        return { scores, scoreGrads, ...ratioScoresBackwardSync({ ...batch, scoreGrads }, { backend }) };
      });
      expect(all.scores.slice(0, some.scores.length)).toEqual(some.scores);
      expect(all.scoreGrads.slice(0, some.scoreGrads.length)).toEqual(some.scoreGrads);
      expect(all.gradLogProbs.slice(0, some.gradLogProbs.length)).toEqual(some.gradLogProbs);
    });
  });

  test('65 groups: the first eight alone get the same bits', () => {
    const { gradScores: scores } = alike(260, 1).whole;
    const rewards = Float64Array.from(scores, (_, i) => i % 3);
    const cuGroups = Int32Array.from({ length: 66 }, (_, g) => 4 * g);
    const all = groupInfoNCESync({ scores, rewards, cuGroups }, { normalizer: 8, backend });
    const first = { scores: scores.slice(0, 32), rewards: rewards.slice(0, 32), cuGroups: cuGroups.slice(0, 9) };
    const some = groupInfoNCESync(first, { normalizer: 8, backend });
    expect(all.groupLosses.slice(0, 8)).toEqual(some.groupLosses);
    expect(all.gradScores.slice(0, 32)).toEqual(some.gradScores);
    expectCloseNumber(all.loss, all.groupLosses.reduce((a, b) => a + b) / 8, 1e-14);
  });

  test('600 scores in one weighted sum', () => {
    const { gradScores: scores } = alike(600, 1).whole;
    const inputs = { scores, advantages: scores.map((s) => s / 2), tokenCounts: scores.map((_, i) => i % 5) };
    const { loss, gradScores } = advantageObjectiveSync(inputs, { aggregation: 'token-mean', backend });
    const expected = advantageObjectiveSync(inputs, { aggregation: 'token-mean', backend: 'reference' });
    expectClose(gradScores, expected.gradScores, 1e-14);
    expectCloseNumber(loss, expected.loss, 1e-13);
  });

  test('losses agree with the reference', () => {
    const batch = randomBatch(5, { vocab: 3, groups: 80 });
    expect(batch.rewards.length).toBeGreaterThan(128);
    const losses = (on: BackendName) => [conspoSync(batch, { backend: on }), grpoSync(batch, { backend: on })];
    const expected = losses('reference');
    for (const [i, { loss, gradLogits }] of losses(backend).entries()) {
      expectCloseNumber(loss, expected[i].loss, 1e-6, 1); // a sum of numbers near 1, which may cancel
      expectClose(gradLogits, expected[i].gradLogits, 1e-6);
    }
  });

  test('of 16,400 rows the first one whose gradient is beyond float32', () => {
    const gradLogProbs = new Float64Array(16_400);
    gradLogProbs[16_390] = gradLogProbs[16_395] = 1e39;
    const targets = new Int32Array(gradLogProbs.length);
    const inputs = { logits: new Float32Array(gradLogProbs.length), targets, logSumExp: gradLogProbs.map(() => 0) };
    expect(() => tokenLogProbsBackwardSync({ ...inputs, gradLogProbs }, { backend })).toThrow(
      rlvrError('ERR_NONFINITE', /one beyond float32 at row 16390: /),
    );
  });
});
