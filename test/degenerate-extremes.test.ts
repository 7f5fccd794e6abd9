// Spec section 7, huge vocabularies and batches; and section 6, ratios that would overflow.
import { expect, test } from 'vitest';
import {
  conspoSync,
  groupInfoNCESync,
  grpo,
  grpoSync,
  type HostTensor,
  ratioScoresSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { RATIO_SCORE_KINDS } from '../lib/kernels.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { DTYPES, FORMATS } from './support/tensors.js';

describeBackends('huge shapes', (backend) => {
  test.each(DTYPES)('V = 2^20, %s', (dtype) => {
    const vocab = 2 ** 20;
    const { toBits } = FORMATS[dtype];
    const data = dtype === 'f32' ? new Float32Array(2 * vocab) : new Uint16Array(2 * vocab); // +0 in every dtype
    data[2 * vocab - 1] = toBits(8);
    const logits: HostTensor = { data, shape: [2, vocab], dtype };
    const targets = Int32Array.of(vocab - 1, vocab - 1);
    const { logProbs, logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
    const sum = vocab - 1 + Math.exp(8);
    expectCloseNumber(logProbs[0], -Math.log(vocab), 1e-6);
    expectCloseNumber(logProbs[1], 8 - Math.log(sum), 1e-6);
    expectCloseNumber(entropy![0], Math.log(vocab), 1e-6);
    expectCloseNumber(entropy![1], Math.log(sum) - (8 * Math.exp(8)) / sum, 1e-6);
    const upstream = dtype === 'f16' ? 2 ** 15 : vocab; // within the type's range
    const inputs = { logits, targets, logSumExp, gradLogProbs: Float64Array.of(0, upstream) };
    const { gradLogits } = tokenLogProbsBackwardSync(inputs, { gradient: 'in-place', backend });
    const bits = [-upstream / sum, upstream * (1 - Math.exp(8) / sum)].map(toBits);
    if (dtype === 'f32') expectClose([gradLogits.data[vocab], gradLogits.data[2 * vocab - 1]], bits, 2e-6);
    else expect([gradLogits.data[vocab], gradLogits.data[2 * vocab - 1]]).toEqual(bits);
    expect(gradLogits.data[vocab - 1]).toBe(0);
    expect(gradLogits.data[vocab]).toBe(gradLogits.data[2 * vocab - 2]);
  });

  const sequences = 2 ** 20;

  test('N = 2^20 sequences in groups of 8', () => {
    // Every group is the same, so every number of the batch is that of one group.
    const one = {
      logProbs: Float64Array.from({ length: 8 }, (_, i) => -(i + 1) / 4),
      oldLogProbs: new Float64Array(8).fill(-1),
      refLogProbs: new Float64Array(8).fill(-1.2),
      cuSeqlens: Int32Array.from({ length: 9 }, (_, i) => i),
      cuGroups: Int32Array.of(0, 8),
      rewards: Float32Array.of(1, 0, 0, 1, 1, 0, 0, 1),
    };
    const groups = sequences / 8;
    const all = {
      logProbs: Float64Array.from({ length: sequences }, (_, i) => one.logProbs[i % 8]),
      oldLogProbs: new Float64Array(sequences).fill(-1),
      refLogProbs: new Float64Array(sequences).fill(-1.2),
      cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, i) => i),
      cuGroups: Int32Array.from({ length: groups + 1 }, (_, g) => 8 * g),
      rewards: Float32Array.from({ length: sequences }, (_, i) => one.rewards[i % 8]),
    };
    const options = { backend, klCoef: 0.1 };
    const pairs = [
      [conspoSync(all, { backend }), conspoSync(one, { backend })],
      [grpoSync(all, options), grpoSync(one, options)],
      [grpoSync(all, { backend, form: 'discriminative' }), grpoSync(one, { backend, form: 'discriminative' })],
    ] as const;
    for (const [whole, part] of pairs) {
      expectCloseNumber(whole.loss, part.loss, 1e-9);
      expect([whole.metrics.contrastiveGroups, whole.metrics.tokens]).toEqual([groups, sequences]);
      for (const first of [0, sequences - 8]) {
        const gradient = whole.gradLogProbs.slice(first, first + 8);
        expectClose(
          gradient,
          part.gradLogProbs.map((g) => g / groups),
          1e-9,
        );
      }
    }
  });

  test('one group of 2^20 sequences', () => {
    const scores = new Float64Array(sequences).fill(-1);
    const rewards = Float32Array.from(scores, (_, i) => i & 1);
    const { loss, gradScores } = groupInfoNCESync(
      { scores, rewards, cuGroups: Int32Array.of(0, sequences) },
      { backend },
    );
    expectCloseNumber(loss, 0.1 * Math.log1p(sequences / 2), 1e-9);
    const sigmoid = sequences / 2 / (1 + sequences / 2);
    expectCloseNumber(gradScores[sequences - 1], -sigmoid / (sequences / 2), 1e-9);
    expectCloseNumber(gradScores[sequences - 2], sigmoid / (sequences / 2), 1e-9);
  });
});

describeBackends('ratios that would overflow', (backend) => {
  // The log-ratio, far inside and outside of +-20; the old log-probs may be infinite.
  const D = [0, 19.5, -19.5, 20.5, -20.5, 700, -700, 1000, -1000, Infinity, -Infinity];
  const logProbs = Float64Array.from(D, () => -1.5);
  const oldLogProbs = Float64Array.from(D, (d) => -1.5 - d);
  const cuSeqlens = Int32Array.from({ length: D.length + 1 }, (_, i) => i); // a sequence per token

  test.each(RATIO_SCORE_KINDS)('%s', (kind) => {
    for (const side of [-1, 0, 1]) {
      const sides = new Float64Array(D.length).fill(side);
      const options = { score: { kind, epsilonHigh: 1e9, epsilonLow: 25 }, backend }; // clips that hold nothing back
      const result = ratioScoresSync({ logProbs, oldLogProbs, cuSeqlens, sides }, options);
      expectFinite(result);
      const clamped = oldLogProbs.map((_old, t) => -1.5 - Math.min(Math.max(D[t], -20), 20));
      const atLimit = ratioScoresSync({ logProbs, oldLogProbs: clamped, cuSeqlens, sides }, options);
      expectClose(result.scores, atLimit.scores, 1e-12);
      // Where the weight is a constant, the gradient is the clipped weight itself.
      if (['stoppedRatio', 'trustRegionTv', 'trustRegionKl', 'gammaWeight'].includes(kind)) continue;
      D.forEach((d, t) => {
        if (Math.abs(d) > 20)
          expect(result.scoreGrads[t] + 0, `d = ${d}`).toBe(0); // or -0
        else if (d !== 0 && !(kind === 'softGate' && d > 0)) expect(result.scoreGrads[t], `d = ${d}`).not.toBe(0);
      });
    }
  });

  test.each(['new', 'in-place'] as const)('in grpo, with KL to a far reference, gradient %s', async (gradient) => {
    const batch = {
      logProbs: logProbs.slice(),
      oldLogProbs,
      refLogProbs: oldLogProbs.slice().reverse(),
      cuSeqlens,
      cuGroups: Int32Array.of(0, 5, D.length),
      rewards: Float32Array.from(D, (_, i) => i % 2),
    };
    for (const klEstimator of ['k1', 'k2', 'k3', 'k1+', 'k3+', 'abs'] as const) {
      const inputs = { ...batch, logProbs: logProbs.slice() };
      const result = await grpo(inputs, { klCoef: 0.1, klEstimator, gradient, backend });
      expectFinite(result);
      const reversed = [...D].reverse();
      D.forEach((d, t) => {
        if (Math.abs(d) > 20 && Math.abs(reversed[t]) > 20) expect(result.gradLogProbs[t]).toBe(0);
      });
    }
  });

  test('InfoNCE of scores thousands of temperatures apart', () => {
    const scores = Float64Array.of(-1e6, 1e6, -1e6, 0);
    const inputs = { scores, rewards: Float32Array.of(1, 0, 0, 1), cuGroups: Int32Array.of(0, 4) };
    const { loss, gradScores } = groupInfoNCESync(inputs, { tau: 1e-3, backend });
    expectCloseNumber(loss, 1.5e6, 1e-12);
    expectClose(gradScores, [-0.5, 1, 0, -0.5], 1e-12);
  });

  test('a gradient near the end of float32 is finite, banned tokens keep 0; beyond it is refused', () => {
    const logits = Float32Array.of(0, 1, -Infinity, 2);
    const targets = Int32Array.of(0);
    const { logSumExp } = tokenLogProbsSync({ logits, targets }, { backend });
    const run = (g: number) =>
      tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs: Float64Array.of(g) }, { backend });
    const { gradLogits } = run(3.4e38);
    expectFinite(gradLogits);
    expect(gradLogits[0]).toBeGreaterThan(3e38);
    expect(gradLogits[2]).toBe(0);
    expect(() => run(1e39)).toThrow(rlvrError('ERR_NONFINITE', /^logits: .* beyond float32 at row 0: /));
  });
});
