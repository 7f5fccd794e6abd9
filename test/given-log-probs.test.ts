// Losses of log-probs read the given arrays themselves, and write the gradient straight to yours where they may: what they
// return is the same wherever it goes.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { type BackendName, conspoSync, forward, grpo, grpoSync } from '../lib/index.js';
import { describeBackends } from './support/backends.js';

const cuSeqlens = Int32Array.of(0, 3, 4, 9, 12);
const cuGroups = Int32Array.of(0, 2, 4);
const rewards = Float32Array.of(1, 0, 0, 1);
const T = 12;

function values(seed: number): number[] {
  const random = new Random(seed);
  return Array.from({ length: T }, () => -2 * random.uniform());
}

type Given = ReturnType<typeof batchInOne>['batch'] & { mask?: Uint8Array };

/** In one buffer, one array after the other. */
function batchInOne() {
  const all = new Float64Array(3 * T);
  const [logProbs, oldLogProbs, rolloutLogProbs] = [0, 1, 2].map((k) => all.subarray(k * T, (k + 1) * T));
  logProbs.set(values(1));
  oldLogProbs.set(values(2));
  rolloutLogProbs.set(values(3));
  return { batch: { logProbs, oldLogProbs, rolloutLogProbs, cuSeqlens, cuGroups, rewards } };
}

interface Options {
  backend: BackendName;
  logProbs?: boolean;
  gradient?: 'in-place' | { out: Float32Array | Float64Array };
}

const LOSSES = {
  conspo: (batch: Given, options: Options) => conspoSync(batch, options),
  grpo: (batch: Given, options: Options) => grpoSync(batch, options),
};

describeBackends('losses of given log-probs', (backend) => {
  describe.each(Object.entries(LOSSES))('%s', (_name, loss) => {
    const expected = loss(batchInOne().batch, { backend, logProbs: true });

    test('in place, and into an array apart, of either type', () => {
      const { batch } = batchInOne();
      const apart = new Float64Array(T).fill(7);
      expect(loss(batch, { backend, logProbs: true, gradient: { out: apart } })).toEqual(expected);
      const inPlace = loss(batch, { backend, logProbs: true, gradient: 'in-place' });
      expect(inPlace.gradLogProbs).toBe(batch.logProbs);
      expect(inPlace).toEqual(expected);
      const rounded = new Float32Array(T);
      loss(batchInOne().batch, { backend, gradient: { out: rounded } });
      expect(rounded).toEqual(Float32Array.from(expected.gradLogProbs));
    });

    test('the log-probs of a result are its own, 0 where a token does not count', () => {
      const mask = Uint8Array.of(1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1);
      for (const masked of [-1, Number.NaN, -Infinity]) {
        const { batch } = batchInOne();
        for (const [t, kept] of mask.entries()) if (kept === 0) batch.logProbs[t] = masked;
        const before = batch.logProbs.slice();
        const { logProbs, gradLogProbs } = loss({ ...batch, mask }, { backend, logProbs: true });
        expect(logProbs).toEqual(before.map((logProb, t) => (mask[t] === 0 ? 0 : logProb)));
        expect(Array.from(gradLogProbs).filter((_, t) => mask[t] === 0)).toEqual([0, 0]);
        expect(batch.logProbs).toEqual(before);
        logProbs!.fill(5);
        expect(batch.logProbs).toEqual(before);
      }
    });
  });

  test('where no term has a gradient, the array is filled with zeros', () => {
    const { batch } = batchInOne();
    const out = new Float64Array(T).fill(7);
    const noContrast = { ...batch, rewards: new Float32Array(4) };
    conspoSync(noContrast, { backend, gradient: { out } });
    expect(Array.from(out)).toEqual(new Array(T).fill(0));
  });

  test('a KL penalty is added to the first term', async () => {
    const { batch } = batchInOne();
    const withReference = { ...batch, refLogProbs: Float64Array.from(values(4)) };
    const out = new Float64Array(T).fill(7);
    const options = { backend, klCoef: 0.3 };
    const result = await grpo(withReference, { ...options, gradient: { out } });
    expect(result.gradLogProbs).toBe(out);
    expect(out).toEqual((await grpo(withReference, options)).gradLogProbs);
    expect(out).not.toEqual((await grpo(batch, { backend })).gradLogProbs);
  });

  test('a forward pass holds log-probs of its own, and its backward pass may be called again', async () => {
    for (const score of ['logLikelihood', { kind: 'clippedRatio' }] as const) {
      const { batch } = batchInOne();
      const given = batch.logProbs.slice();
      const { logProbs, backward } = await forward(batch, score, { backend });
      const slopes = Float64Array.of(1, -2, 0, 3);
      const { gradLogProbs } = await backward(slopes);
      const { gradLogProbs: inPlace } = await backward(slopes, { gradient: 'in-place' });
      expect(inPlace).toBe(batch.logProbs);
      expect(batch.logProbs).toEqual(gradLogProbs);
      expect(logProbs).toEqual(given);
      expect((await backward(slopes)).gradLogProbs).toEqual(gradLogProbs);
    }
  });
});
