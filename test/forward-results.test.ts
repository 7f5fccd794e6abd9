// Between forward and backward the caller may do anything with what forward returned, and may change the batch.
import { expect, test } from 'vitest';
import { forward, forwardSync, type Score } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { fromLogProbs, fullBatch } from './support/named-losses.js';

const SCORES: Score[] = ['logLikelihood', { kind: 'ratio' }];

describeBackends('results of forward', (backend) => {
  const batch = fullBatch(3, { groups: 3 });
  const gradScores = Float64Array.from(batch.rewards, (reward, i) => reward - 0.3 * i);

  test.each([
    ['logits', batch],
    ['log-probs', fromLogProbs(batch)],
  ])('are the caller’s, of %s', async (_name, of) => {
    for (const score of SCORES) {
      const expected = forwardSync(of, score, { backend }).backward(gradScores);
      const { backward, ...result } = await forward(of, score, { backend });
      for (const array of Object.values(result))
        if (ArrayBuffer.isView(array)) structuredClone(array, { transfer: [array.buffer as ArrayBuffer] });
      expect(result.tokenCounts.length).toBe(0);
      expect(await backward(gradScores)).toEqual(expected);
      const again = forwardSync(of, score, { backend });
      for (const array of [again.scores, again.tokenCounts, again.logProbs]) array.fill(Number.NaN);
      expect(again.backward(gradScores)).toEqual(expected);
    }
  });

  test('targets that were changed are checked again', async () => {
    const targets = batch.targets.slice();
    const kept = batch.mask.indexOf(1);
    const { backward } = await forward({ ...batch, targets }, 'logLikelihood', { backend });
    targets[kept] = 1000;
    await expect(backward(gradScores)).rejects.toThrow(`targets: expected ids in [0, 5), got 1000 at index ${kept}`);
    targets[kept] = batch.targets[kept];
    await expect(backward(gradScores)).resolves.toBeDefined();
  });
});
