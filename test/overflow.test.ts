// Finite arguments whose results are near the ends of a double's range, or beyond them: computed where they are representable,
// else refused by name; never NaN or infinite, and the same on every backend.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { dtypeNamed } from '../lib/kernels.js';
import { BACKENDS, describeBackends } from './support/backends.js';
import { expectClose, expectFinite } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { byName, fromLogProbs, fullBatch, NAMED_LOSSES } from './support/named-losses.js';
import { DTYPES, hostTensor, numbers } from './support/tensors.js';

const MAX = Number.MAX_VALUE;
const MIN = Number.MIN_VALUE;
const doubles = (...values: number[]) => Float64Array.from(values);
const refusedFor = (name: string, causes = '') =>
  rlvrError('ERR_NONFINITE', new RegExp(`^${name}: expected .*${causes}`));

describe('advantages', () => {
  const cuGroups = Int32Array.of(0, 3, 5);
  const small = doubles(1, 0.25, -1, 0.5, -0.5);
  const exact = { estimator: 'grpo', eps: 0 } as const;

  test.each([1023, 900, 600, -500, -1000, -1070])('rewards times 2^%i', (power) => {
    const rewards = small.map((reward) => reward * 2 ** Math.max(power, -1000) * 2 ** Math.min(power + 1000, 0));
    const expected = rlvr.advantages({ rewards: small, cuGroups }, exact);
    expectClose(rlvr.advantages({ rewards, cuGroups }, exact), expected, 1e-12);
    for (const estimator of ['drGrpo', 'rloo', 'opo'] as const) {
      const tokenCounts = doubles(1, 2, 3, 4, 5);
      const linear = rlvr.advantages({ rewards: small, cuGroups, tokenCounts }, { estimator });
      if (power === 1023) continue; // some are beyond the range
      const scaled = rlvr.advantages({ rewards, cuGroups, tokenCounts }, { estimator });
      expectClose(
        scaled.map((value, i) => value / (rewards[i] / small[i])),
        linear,
        power < -1000 ? 0.5 : 1e-12,
      );
    }
  });

  test('with eps, and beyond the range', () => {
    const rewards = doubles(MAX, MAX, -MAX);
    const ofGroup = { rewards, cuGroups: Int32Array.of(0, 3) };
    const r = Math.sqrt(1 / 3); // of (2/3, 2/3, -4/3) over their standard deviation
    expectClose(rlvr.advantages(ofGroup), [r, r, -2 * r], 1e-12);
    expectClose(
      rlvr.advantages({ ...ofGroup, rewards: rewards.map((x) => x * 1e-308 * 1e-200) }),
      doubles(1.2e-196, 1.2e-196, -2.4e-196),
      1e-2,
    );
    const refusal = refusedFor('rewards', 'advantage of -Infinity$');
    expect(() => rlvr.advantages(ofGroup, { estimator: 'drGrpo' })).toThrow(refusal);
  });
});

describeBackends('representable', (backend) => {
  test('means of log-probs whose sums are not', () => {
    const logProbs = doubles(-1e308, -1.5e308, -1.25e308, -1e308, -1e308, -3);
    const inputs = { logProbs, cuSeqlens: Int32Array.of(0, 3, 5, 6), mask: Uint8Array.of(1, 1, 1, 1, 1, 1) };
    expectClose(
      rlvr.sequenceLogProbsSync(inputs, { backend }).scores.map((s) => s / 1e308),
      [-1.25, -1, -3e-308],
      1e-12,
    );
    const { scores } = rlvr.forwardSync(inputs, 'logLikelihood', { backend });
    expectClose(
      scores.map((s) => s / 1e308),
      [-1.25, -1, -3e-308],
      1e-12,
    );
  });

  test('a mean of group losses whose sum is not', () => {
    const scores = doubles(-1e308, 0, -1e308, 0);
    const inputs = { scores, rewards: doubles(1, 0, 1, 0), cuGroups: Int32Array.of(0, 2, 4) };
    const { loss, groupLosses, gradScores } = rlvr.groupInfoNCESync(inputs, { backend });
    expect([loss, ...groupLosses]).toEqual([1e308, 1e308, 1e308]);
    expect(gradScores).toEqual(doubles(-0.5, 0.5, -0.5, 0.5));
  });

  test('InfoNCE of scores whose differences are not, and with extreme parameters', () => {
    const inputs = { rewards: doubles(1, 0, 0), cuGroups: Int32Array.of(0, 3) };
    const run = (scores: number[], options: rlvr.GroupInfoNCEOptions) =>
      rlvr.groupInfoNCESync({ ...inputs, scores: doubles(...scores) }, { ...options, backend });
    const far = run([MAX, MAX, -MAX], { tau: 1e308 });
    const share = Math.exp(-2 * (MAX / 1e308));
    expectClose([far.loss / 1e308], [Math.log(2 + share)], 1e-12);
    expect(run([MAX, -MAX, -MAX], {}).loss).toBe(0);
    expect(run([0, 0, 0], { tau: MIN }).loss).toBe(MIN); // log(3) of it
    expectClose(run([-1, 0, 0], { tau: MIN }).gradScores, [-1, 0.5, 0.5], 1e-12);
    expectClose([run([-1e308, -1.5e308, -1.5e308], { margin: 1e308 }).loss / 1e308], [0.5], 1e-12);
    expect(run([0, 0, 0], { margin: -MAX })).toMatchObject({ loss: 0 });
  });

  test('a weight that is not, times an advantage', () => {
    const inputs = { scores: doubles(1, -2), advantages: doubles(3 * MIN, 0), tokenCounts: doubles(2, 5) };
    const result = rlvr.advantageObjectiveSync(inputs, { normalizer: MIN, backend });
    expect(result).toEqual({ loss: -3, gradScores: doubles(-3, 0) });
  });

  test('metrics', () => {
    const batch = { logProbs: doubles(-1, -2), cuSeqlens: Int32Array.of(0, 1, 2), cuGroups: Int32Array.of(0, 2) };
    const { metrics } = rlvr.conspoSync({ ...batch, rewards: doubles(1e308, 1.5e308) }, { backend });
    expect(metrics.rewardMean / 1e308).toBeCloseTo(1.25, 12);
    const far = { ...batch, rewards: doubles(1, 0), rolloutLogProbs: doubles(-1.2e308, -1.6e308) };
    const rollout = rlvr.conspoSync(far, { backend }).metrics;
    expect(rollout.rolloutLogProbDiffMean! / 1e308).toBeCloseTo(1.4, 12);
    const same = { ...batch, logProbs: doubles(-1e308, -1e308), rewards: doubles(0, 0) };
    expect(rlvr.conspoSync(same, { backend }).metrics.negativeScoreMean).toBe(-1e308);
  });
});

describeBackends('beyond the range, refused', (backend) => {
  test('ops', () => {
    const scored = { scores: doubles(-1e308, 1e308), rewards: doubles(1, 0), cuGroups: Int32Array.of(0, 2) };
    const nce = (options: object) => () => rlvr.groupInfoNCESync(scored, { ...options, backend });
    expect(nce({})).toThrow(refusedFor('groupLosses', 'got Infinity at index 0: scores, tau or margin'));
    expect(nce({ margin: MAX })).toThrow(refusedFor('groupLosses'));
    const near = { ...scored, scores: doubles(-1, 0) };
    const small = () => rlvr.groupInfoNCESync(near, { normalizer: MIN, backend });
    expect(small).toThrow(refusedFor('loss', 'normalizer too small'));

    const weighted = { scores: doubles(1, 2), advantages: doubles(1, -1), tokenCounts: doubles(1, 1) };
    const objective = (change: object, options: rlvr.AdvantageObjectiveOptions) => () =>
      rlvr.advantageObjectiveSync({ ...weighted, ...change }, { ...options, backend });
    expect(objective({}, { normalizer: MIN })).toThrow(refusedFor('loss'));
    expect(objective({ scores: doubles(1e200, 1), advantages: doubles(1e200, 1) }, {})).toThrow(refusedFor('loss'));
    const manyTokens = { tokenCounts: doubles(MAX, MAX) };
    expect(objective(manyTokens, { aggregation: 'token-mean' })).toThrow(refusedFor('loss', 'NaN.*tokenCounts'));
    const long = objective({}, { aggregation: 'constant-length', maxLength: MAX });
    expect(long).toThrow(rlvrError('ERR_RANGE', /^maxLength: expected a finite N \* maxLength with N = 2, got 1\.7/));

    const given = { logProbs: doubles(-1e308, -2), cuSeqlens: Int32Array.of(0, 1, 2) };
    const ratio = (change: object, score: rlvr.RatioScore) => () =>
      rlvr.ratioScoresSync({ ...given, ...change }, { score, backend });
    expect(ratio({}, { kind: 'stoppedRatio', ratioMin: 5, ratioMax: 5 })).toThrow(refusedFor('scores'));
    expect(ratio({}, { kind: 'softGate', tauNeg: MIN })).toThrow(refusedFor('scores', 'tauPos or tauNeg'));
    const heavy = { tokenWeights: doubles(1, MAX), oldLogProbs: doubles(-1e308, -7) };
    expect(ratio(heavy, { kind: 'ratio' })).toThrow(refusedFor('scores', 'Infinity at index 1.*tokenWeights'));
  });

  test('products with the derivatives of scores, before an array of the caller is written', () => {
    const out = doubles(7, 7, 7);
    const inputs = { cuSeqlens: Int32Array.of(0, 2, 3), scoreGrads: doubles(1, 1e200, 1e-200) };
    const run = (gradScores: Float64Array) =>
      rlvr.ratioScoresBackwardSync({ ...inputs, gradScores }, { gradient: { out }, backend });
    expect(() => run(doubles(1e200, 1))).toThrow(refusedFor('gradLogProbs', 'Infinity: .* at token 1$'));
    expect(out).toEqual(doubles(7, 7, 7));
    expect(run(doubles(1e100, 1e300)).gradLogProbs).toEqual(doubles(1e100, 1e100 * 1e200, 1e-200 * 1e300));
  });

  test('a gradient of log-probs that float32 does not hold', () => {
    const out = Float32Array.of(7, 7);
    const batch = {
      logProbs: Float32Array.of(-1, -2),
      cuSeqlens: Int32Array.of(0, 1, 2),
      advantages: doubles(1e100, -1e100),
    };
    const run = (gradient: 'new' | 'in-place' | { out: Float32Array }) => rlvr.grpoSync(batch, { gradient, backend });
    expect(run('new').gradLogProbs).toEqual(doubles(-0.5e100, 0.5e100));
    const refusal = rlvrError('ERR_NONFINITE', /^gradient: expected values within float32, got -5e\+99 at token 0: /);
    for (const gradient of ['in-place', { out }] as const) expect(() => run(gradient)).toThrow(refusal);
    expect([batch.logProbs, out]).toEqual([Float32Array.of(-1, -2), Float32Array.of(7, 7)]);
  });
});

const VOCAB = 300;
const TOKENS = 6;

describeBackends('gradients of logits', (backend) => {
  const rows = (dtype: rlvr.DType) => {
    const values = Float64Array.from({ length: TOKENS * VOCAB }, (_, i) => 3 * Math.sin(i));
    const logits = hostTensor(values, [TOKENS, VOCAB], dtype);
    const targets = new Int32Array(TOKENS).fill(VOCAB - 3);
    const { logSumExp, entropy } = rlvr.tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
    const ones = new Float64Array(TOKENS).fill(1);
    return { logits, targets, logSumExp, entropy: entropy!, gradLogProbs: ones, gradEntropy: ones.slice() };
  };
  const spoil = (logits: rlvr.HostTensor, row: number, column: number, value: number) => {
    const one = hostTensor(doubles(value), [1, 1], dtypeNamed(logits.dtype!)).data[0];
    logits.data[row * VOCAB + column] = one;
  };
  const places = [0, 1, 17, VOCAB - 3, VOCAB - 1];

  describe.each(DTYPES)('%s', (dtype) => {
    test.each([NaN, Infinity])('a logit of %d is noticed, wherever it is', (value) => {
      for (const withEntropy of [true, false]) {
        for (const column of places) {
          const inputs = { ...rows(dtype), ...(!withEntropy && { gradEntropy: undefined, entropy: undefined }) };
          for (const row of [4, 2]) spoil(inputs.logits, row, column, value);
          const refusal = rlvrError('ERR_NONFINITE', /^logits: expected a finite gradient.* at row 2: /);
          const out = hostTensor(new Float64Array(TOKENS * VOCAB), [TOKENS, VOCAB], dtype);
          for (const gradient of ['new', { out }, 'in-place'] as const) {
            expect(() => rlvr.tokenLogProbsBackwardSync(inputs as never, { gradient, backend }), `${column}`).toThrow(
              refusal,
            );
          }
        }
      }
    });

    test('rows that are masked, or have no gradient, are not looked at', () => {
      const inputs = rows(dtype);
      for (const row of [1, 3]) spoil(inputs.logits, row, 5, NaN);
      inputs.gradLogProbs[3] = inputs.gradEntropy[3] = 0;
      const mask = Uint8Array.of(1, 0, 1, 1, 1, 1);
      expectFinite(numbers(rlvr.tokenLogProbsBackwardSync({ ...inputs, mask }, { backend }).gradLogits.data, dtype));
    });

    test.each([100, 200, 500, 1e5, 1e30, 1e300])('a logSumExp that is %d too small', (by) => {
      const inputs = { ...rows(dtype), gradEntropy: undefined, entropy: undefined };
      inputs.logSumExp[5] -= by;
      const refusal = rlvrError('ERR_NONFINITE', /^logits: .* at row 5: .*logSumExp is not theirs/);
      expect(() => rlvr.tokenLogProbsBackwardSync(inputs as never, { backend })).toThrow(refusal);
    });

    test('a logSumExp over more than these logits is as good', () => {
      const inputs = rows(dtype);
      inputs.logSumExp.forEach((lse, t) => {
        inputs.logSumExp[t] = lse + [0, 1, 50, 100, 1e30, 1e300][t];
      });
      const { gradLogits } = rlvr.tokenLogProbsBackwardSync({ ...inputs, gradEntropy: undefined } as never, {
        backend,
      });
      expectFinite(numbers((gradLogits as rlvr.HostTensor).data, dtype));
    });

    test('upstream gradients that the type does not hold', () => {
      for (const name of ['gradLogProbs', 'gradEntropy'] as const) {
        const inputs = rows(dtype);
        const out = hostTensor(new Float64Array(TOKENS * VOCAB).fill(3), [TOKENS, VOCAB], dtype);
        const before = out.data.slice();
        inputs[name][2] = 1e39;
        const call = () => rlvr.tokenLogProbsBackwardSync(inputs, { gradient: { out }, backend });
        expect(call).toThrow(rlvrError('ERR_NONFINITE', /^logits: .* at row 2: .*gradEntropy are too large$/));
        expect(out.data).toEqual(before);
      }
      const inputs = rows(dtype);
      inputs.gradLogProbs[1] = 1e5;
      const run = () => rlvr.tokenLogProbsBackwardSync(inputs, { backend }).gradLogits.data;
      if (dtype === 'f16') expect(run).toThrow(rlvrError('ERR_NONFINITE', /^logits: .* at row 1: /));
      else expectFinite(numbers(run(), dtype));
    });
  });

  test('in a loss: nothing is written', () => {
    const { logits, targets } = rows('f32');
    const before = logits.data.slice();
    const batch = { logits, targets, cuSeqlens: Int32Array.of(0, 3, 6), advantages: doubles(1e200, -1) };
    const refusal = rlvrError('ERR_NONFINITE', /^gradient: expected .* beyond float32 at row 0: .*rewards/);
    for (const loss of [rlvr.gspoSync, rlvr.gmpoSync]) {
      expect(() => loss(batch, { gradient: 'in-place', backend })).toThrow(refusal);
    }
    expect(logits.data).toEqual(before);
    expect(() => rlvr.grpoSync(batch, { backend })).toThrow(refusal); // written as the logits are read
    const { backward } = rlvr.forwardSync(batch, 'logLikelihood', { backend });
    expect(() => backward(doubles(1, 1e300))).toThrow(rlvrError('ERR_NONFINITE', /^gradient: .* at row 3: /));
    spoil(logits, 4, 7, NaN);
    expect(() => backward(doubles(1, 1))).toThrow(rlvrError('ERR_NONFINITE', /^gradient: .* at row 4: /));
  });
});

describe('losses of extreme numbers are finite, or refused alike on every backend', () => {
  const extremes = fc.constantFrom(0, 1, -1, 0.5, 1e-320, MIN, 1e-200, 1e100, 1e200, 1e308, -1e200, -1e308);
  const positive = extremes.filter((x) => x > 0);
  const options = {
    tau: positive,
    margin: extremes,
    normalizer: positive,
    maxLength: positive,
    klCoef: extremes.filter((x) => x >= 0),
    klMax: positive,
    tauPos: positive,
    tauNeg: positive,
    ratioMin: fc.constantFrom(0, 1, 5, 1e308),
    ratioMax: fc.constantFrom(1e308, Infinity),
    epsilonHigh: positive,
  };

  test.each(byName(NAMED_LOSSES))('%s', (_name, { runSync, options: needed }) => {
    const known = (name: string) => {
      try {
        runSync({} as never, { ...needed, [name]: 1 } as never);
      } catch (error) {
        return (error as rlvr.RlvrError).code !== 'ERR_OPTION';
      }
      return true;
    };
    const own = Object.fromEntries(Object.entries(options).filter(([name]) => known(name)));
    const base = fromLogProbs(fullBatch(17));
    const tokens = base.logProbs.length;
    const some = (length: number) => fc.option(fc.array(fc.tuple(fc.nat(length - 1), extremes), { maxLength: 4 }));
    fc.assert(
      fc.property(
        fc.record(own, { requiredKeys: [] }),
        some(base.rewards.length),
        some(tokens),
        some(tokens),
        (chosen, rewards, logProbs, oldLogProbs) => {
          const put = (values: Float64Array, changes: [number, number][] | null) => {
            const copy = Float64Array.from(values);
            for (const [i, value] of changes ?? []) copy[i] = value;
            return copy;
          };
          const batch = {
            ...base,
            rewards: put(Float64Array.from(base.rewards), rewards),
            logProbs: put(base.logProbs, logProbs),
            oldLogProbs: put(base.oldLogProbs, oldLogProbs),
          };
          const outcomes = BACKENDS.map((backend) => {
            try {
              const result = runSync(batch, { ...needed, ...chosen, backend } as never);
              expectFinite(result);
              return 'finite';
            } catch (error) {
              expect(error).toBeInstanceOf(rlvr.RlvrError);
              return (error as rlvr.RlvrError).message.split(' ')[0];
            }
          });
          expect(new Set(outcomes).size, outcomes.join(' ')).toBe(1);
        },
      ),
      { numRuns: 60 },
    );
  });
});
