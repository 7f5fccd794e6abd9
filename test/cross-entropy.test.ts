// Cross-entropy on the batch of every loss, against plain loops over log-probs.
import { describe, expect, test } from 'vitest';
import {
  type CrossEntropyOptions,
  crossEntropy,
  crossEntropySync,
  forwardSync,
  linearLogProbsSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { linearBatch } from './support/linear-rows.js';
import { expectGradient } from './support/losses.js';
import { fullBatch } from './support/named-losses.js';
import { tokensOf } from './support/packed.js';

const VOCAB = 5;

/** A batch without rewards and groups, with weights of tokens. */
function sequences(seed: number) {
  const { rewards: _rewards, cuGroups: _cuGroups, oldLogProbs: _old, ...batch } = fullBatch(seed);
  const { logits, targets, cuSeqlens, mask } = batch;
  return { logits, targets, cuSeqlens, mask };
}

const weightsOf = (tokens: number) => Float64Array.from({ length: tokens }, (_, t) => (t % 4) / 2);

/** [T] -w log p of the tokens that count. */
function terms(batch: ReturnType<typeof sequences>, weights = new Float64Array(batch.targets.length).fill(1)) {
  const { logProbs } = tokenLogProbsSync(batch, { backend: 'reference' });
  return logProbs.map((logProb, t) => (batch.mask[t] ? 0 - weights[t] * logProb : 0));
}

const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);

describeBackends('cross-entropy', (backend) => {
  test('the mean over tokens, and its gradient', async () => {
    const batch = sequences(3);
    const result = await crossEntropy(batch, { backend });
    const count = sum(batch.mask);
    expectCloseNumber(result.loss, sum(terms(batch)) / count, 1e-6);
    expect(result.metrics.tokens).toBe(count);
    expect('advantages' in result).toBe(false);
    const { gradLogits } = forwardSync(batch, 'logLikelihood', { backend: 'reference' }).backward(
      Float64Array.from({ length: batch.cuSeqlens.length - 1 }, (_, i) => -tokensOf(batch, i).length / count),
    );
    expectClose(result.gradLogits, gradLogits, 2e-6);
    expect(crossEntropySync(batch, { backend })).toEqual(result);
  });

  test.each<[string, CrossEntropyOptions, (length: number, sequences: number, tokens: number) => number]>([
    ['sequence-mean', { aggregation: 'sequence-mean' }, (length, N) => 1 / N / length],
    ['constant-length', { aggregation: 'constant-length', maxLength: 16 }, (_length, N) => 1 / N / 16],
    ['a normalizer', { normalizer: 100 }, () => 1 / 100],
  ])('%s, with weights of tokens', (_name, options, share) => {
    const batch = sequences(4);
    const tokenWeights = weightsOf(batch.targets.length);
    const all = terms(batch, tokenWeights);
    const N = batch.cuSeqlens.length - 1;
    const parts = Array.from({ length: N }, (_, i) => {
      const tokens = tokensOf(batch, i);
      return sum(tokens.map((t) => all[t])) * share(Math.max(tokens.length, 1), N, sum(batch.mask));
    });
    const { loss, tokenLosses } = crossEntropySync({ ...batch, tokenWeights }, { ...options, perToken: true, backend });
    expectCloseNumber(loss, sum(parts), 1e-6);
    expectClose(tokenLosses!, all, 1e-6);
  });

  test('finite differences', () => {
    const batch = sequences(5);
    const tokenWeights = weightsOf(batch.targets.length);
    expectGradient(backend, { ...batch, tokenWeights }, (given, on) => crossEntropySync(given, { backend: on }));
  });

  test('nothing of the batch of a loss plays a part but its tokens', () => {
    const batch = fullBatch(6);
    const { targets, cuSeqlens, mask, logits } = batch;
    const more = {
      ...batch,
      advantages: new Float64Array(cuSeqlens.length - 1).fill(-7),
      rolloutWeights: new Float64Array(targets.length).fill(3),
    };
    const plain = crossEntropySync({ logits, targets, cuSeqlens, mask }, { backend });
    const { loss, gradLogits, scores } = crossEntropySync(more, { backend });
    expect({ loss, gradLogits, scores }).toEqual({
      loss: plain.loss,
      gradLogits: plain.gradLogits,
      scores: plain.scores,
    });
  });

  test('from log-probs and from hidden states', () => {
    const batch = sequences(7);
    const { cuSeqlens, mask } = batch;
    const { logProbs } = tokenLogProbsSync(batch, { backend });
    const { loss, gradLogProbs } = crossEntropySync({ logProbs, cuSeqlens, mask }, { backend });
    expectCloseNumber(loss, crossEntropySync(batch, { backend }).loss, 1e-6);
    expectClose(
      gradLogProbs,
      Float64Array.from(mask, (m) => -m / sum(mask)),
      1e-12,
    );

    const { hidden, weight, targets } = linearBatch(1, { tokens: 6, vocab: 11, width: 4 });
    const layer = { hidden, weight, targets };
    const expected = linearLogProbsSync(layer, { backend: 'reference' }).logProbs;
    const ofHidden = crossEntropySync({ ...layer, cuSeqlens: Int32Array.of(0, 2, 6) }, { backend });
    expectCloseNumber(ofHidden.loss, -sum(expected) / 6, 1e-5);
    expect(ofHidden.gradWeight).toBeDefined();
  });

  test('in place, deferred, and not at all', () => {
    const batch = sequences(8);
    const { gradLogits, loss } = crossEntropySync(batch, { backend });
    const own = { ...batch, logits: batch.logits.slice() };
    expect(crossEntropySync(own, { backend, gradient: 'in-place' }).gradLogits).toBe(own.logits);
    expect(own.logits).toEqual(gradLogits);
    const other = { ...batch, logits: batch.logits.slice() };
    const deferred = crossEntropySync(other, { backend, gradient: { deferred: true } });
    const scaled = deferred.gradLogits.map((x, k) => x * deferred.rowScale[Math.floor(k / VOCAB)]);
    expectClose(scaled, gradLogits, 2e-6);
    expect(crossEntropySync(batch, { backend, gradient: 'none' }).loss).toBeCloseTo(loss, 6);
  });

  test('no tokens: 0', () => {
    const batch = sequences(9);
    const nothing = crossEntropySync({ ...batch, mask: batch.mask.map(() => 0) }, { backend });
    expect(nothing.loss).toBe(0);
    expect(nothing.gradLogits.every((x) => x === 0)).toBe(true);
  });

  describe('refused', () => {
    test('options of policy losses', async () => {
      for (const name of ['klCoef', 'epsilonLow', 'advantage', 'entropyCoef'] as const) {
        const call = crossEntropy(sequences(1), { [name]: 1, backend } as CrossEntropyOptions);
        await expect(call, name).rejects.toEqual(rlvrError('ERR_OPTION', `${name}: no such option of crossEntropy`));
      }
    });

    test('weights below 0, or of another length', async () => {
      const batch = sequences(1);
      const negative = new Float64Array(batch.targets.length).fill(-1);
      const call = (tokenWeights: Float64Array) => crossEntropy({ ...batch, tokenWeights }, { backend });
      await expect(call(negative)).rejects.toEqual(
        rlvrError('ERR_RANGE', /^tokenWeights: expected .*, got -1 at index/),
      );
      await expect(call(negative.subarray(1))).rejects.toEqual(
        rlvrError('ERR_SHAPE', /^tokenWeights: expected length/),
      );
    });
  });
});
