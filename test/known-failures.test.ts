// What went wrong elsewhere, one test each, with the issue it was reported in. Names of projects: huggingface/trl,
// linkedin/Liger-Kernel, NVIDIA-NeMo/RL, NovaSky-AI/SkyRL.
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  cispoSync,
  conspoSync,
  dapoSync,
  grpoSync,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber, expectFinite } from './support/compare.js';
import { emulation } from './support/device.js';
import { expectSum } from './support/losses.js';
import {
  type AnyOptions,
  byName,
  fromLogProbs,
  fullBatch,
  groupsOf,
  NAMED_LOSSES,
  POLICY_LOSSES,
} from './support/named-losses.js';
import { tokensOf } from './support/packed.js';

describeBackends('known failures', (backend) => {
  describe.each(byName(NAMED_LOSSES))('%s', (_name, { runSync, options: own }) => {
    const options = { ...own, backend };

    test('every completion truncated and masked: 0, not NaN (trl#3248)', () => {
      const batch = fullBatch(3, { groups: 4 });
      const result = runSync({ ...batch, mask: new Uint8Array(batch.mask.length) }, options);
      expect(result.loss).toBe(0);
      expect(result.gradLogits).toEqual(new Float32Array(batch.logits.length));
      expectFinite(result);
    });

    test('one sequence of a group masked: the others learn on', () => {
      const batch = fullBatch(15, { groups: 4 });
      const first = batch.cuSeqlens.findIndex((end, i) => end > batch.cuSeqlens[i - 1]);
      batch.mask.fill(0, batch.cuSeqlens[first - 1], batch.cuSeqlens[first]);
      const result = runSync(batch, options);
      expectFinite(result);
      expect(Math.hypot(...result.gradLogits)).toBeGreaterThan(0);
    });

    test('0 * infinity at masked tokens: padding at +-infinity reaches no gradient (NeMo-RL#4120)', () => {
      const batch = fromLogProbs(fullBatch(5, { groups: 4 }));
      const expected = runSync(batch, options);
      for (const bad of [Infinity, -Infinity, NaN, 200]) {
        const spoil = (values: Float64Array) => values.map((x, t) => (batch.mask[t] ? x : bad));
        const { logProbs, oldLogProbs, refLogProbs } = batch;
        const spoilt = {
          logProbs: spoil(logProbs),
          oldLogProbs: spoil(oldLogProbs).map((x, t) => (batch.mask[t] ? x : -x)),
          refLogProbs: spoil(refLogProbs),
        };
        expect(runSync({ ...batch, ...spoilt }, options)).toEqual(expected);
      }
    });

    test('a ratio of e^1000 overflows exp: finite, and the other tokens learn (trl#6637)', () => {
      const batch = fromLogProbs(fullBatch(20, { groups: 4 }));
      const far = (values: Float64Array, value: number, k: number) => values.map((x, t) => (t % 4 === k ? value : x));
      for (const value of [-1000, 1000, -1e308, -Infinity, Infinity]) {
        const [oldLogProbs, rolloutLogProbs] = [far(batch.oldLogProbs, value, 0), far(batch.rolloutLogProbs, value, 1)];
        const result = runSync({ ...batch, oldLogProbs, rolloutLogProbs }, options);
        expectFinite([result.loss, result.gradLogProbs]);
        expect(Object.entries(result.metrics).filter(([, metric]) => Number.isNaN(metric))).toEqual([]);
        expect(Math.hypot(...result.gradLogProbs)).toBeGreaterThan(0);
      }
    });
  });

  describe.each(byName(POLICY_LOSSES))('%s', (_name, { runSync, options: own }) => {
    test("KL's gradient flows, per token, also with a sequence-level ratio (trl#6594)", () => {
      const batch = fromLogProbs(fullBatch(7, { groups: 4 }));
      const advantages = new Float64Array(batch.rewards.length); // no policy gradient: what is left is KL's
      const result = runSync({ ...batch, advantages }, { ...own, klCoef: 0.5, aggregation: 'sequence-mean', backend });
      const { logProbs, refLogProbs } = batch;
      const expected = new Float64Array(logProbs.length);
      const N = advantages.length;
      for (let i = 0; i < N; i++) {
        const tokens = tokensOf(batch, i);
        for (const t of tokens) expected[t] = (0.5 * (1 - Math.exp(refLogProbs[t] - logProbs[t]))) / tokens.length / N;
      }
      expect(Math.hypot(...expected)).toBeGreaterThan(0);
      expectClose(result.gradLogProbs, expected, 1e-12);
    });

    test('entropy of banned tokens: 0 * log 0 is 0, in value and gradient (trl#7252)', () => {
      const batch = fullBatch(9, { groups: 4 });
      const banned = batch.logits.map((z, k) => (k % 5 === (batch.targets[Math.floor(k / 5)] + 2) % 5 ? -Infinity : z));
      const without = runSync({ ...batch, logits: banned }, { ...own, backend });
      const bonus = runSync({ ...batch, logits: banned }, { ...own, entropyCoef: 0.1, backend });
      expectFinite([bonus.loss, bonus.gradLogits]);
      expect(bonus.loss).toBeLessThan(without.loss);
      expect(bonus.gradLogits.every((g, k) => g === 0 || banned[k] !== -Infinity)).toBe(true);
    });

    test('on-policy the loss may be 0; the gradient is not: it is the policy gradient', () => {
      const { oldLogProbs: _old, rolloutLogProbs: _rollout, ...batch } = fromLogProbs(fullBatch(8, { groups: 4 }));
      const { gradLogProbs, advantages } = runSync(batch, { ...own, aggregation: 'sequence-mean', backend });
      const N = batch.rewards.length;
      const expected = new Float64Array(batch.mask.length);
      for (let i = 0; i < N; i++) {
        const tokens = tokensOf(batch, i);
        for (const t of tokens) expected[t] = -advantages![i] / tokens.length / N;
      }
      expect(Math.hypot(...expected)).toBeGreaterThan(0);
      expectClose(gradLogProbs, expected, 1e-14);
    });
  });

  test('the denominator counts what the mask keeps (trl#6369)', () => {
    const logProbs = Float64Array.of(-1, -1, -1, -1, -2, -2, -2, -2);
    const groups = { cuSeqlens: Int32Array.of(0, 4, 8), cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) };
    const mask = Uint8Array.of(1, 0, 0, 0, 1, 1, 0, 0);
    const kept = {
      logProbs: Float64Array.of(-1, -2, -2),
      cuSeqlens: Int32Array.of(0, 1, 3),
      cuGroups: groups.cuGroups,
      rewards: groups.rewards,
    };
    for (const { name, runSync, options } of NAMED_LOSSES) {
      const masked = runSync({ logProbs, mask, ...groups }, { ...options, backend });
      const dropped = runSync(kept, { ...options, backend });
      expectCloseNumber(masked.loss, dropped.loss, 1e-15, 1);
      expect(
        masked.gradLogProbs.filter((_, t) => mask[t]),
        name,
      ).toEqual(dropped.gradLogProbs);
      expect(masked.metrics, name).toEqual(dropped.metrics);
    }
  });

  describe('gradient accumulation: the mean of means is not the mean (trl#3021, trl#5619)', () => {
    const whole = fromLogProbs(fullBatch(29, { groups: 6 }));
    const { mask, rewards } = whole;
    const tokens = mask.reduce((sum, m) => sum + m, 0);
    const splits = [0, 2, 3, 6];
    const micro = splits.slice(1).map((last, k) => groupsOf(whole, splits[k], last));

    test.each<[normalizer: number, options: AnyOptions]>([
      [tokens, { aggregation: 'token-mean' }],
      [rewards.length, { aggregation: 'sequence-mean' }],
      [rewards.length * 16, { aggregation: 'constant-length', maxLength: 16 }],
    ])('normalizer %d for %o', (normalizer, aggregation) => {
      const options: AnyOptions = { ...aggregation, klCoef: 0.1, backend };
      const total = grpoSync(whole, options);
      const parts = micro.map((batch) => grpoSync(batch, { ...options, normalizer }));
      expectSum(parts, total, 1e-13);

      // without it, the answer depends on how the batch was cut
      const naive = micro
        .map((batch) => grpoSync(batch, options).loss)
        .reduce((all, loss) => all + loss / micro.length, 0);
      expect(Math.abs(naive - total.loss) > 1e-3 * Math.abs(total.loss)).toBe(true);
    });
  });

  test('CISPO bounds are absolute: [0, 5] lets ratios up to 5 through (SkyRL#1928)', () => {
    const ratios = [0.01, 0.5, 1.5, 4.9, 5.1, 6];
    const logProbs = new Float64Array(6).fill(-1);
    const batch = {
      logProbs,
      oldLogProbs: Float64Array.from(ratios, (r) => -1 - Math.log(r)),
      cuSeqlens: Int32Array.of(0, 6, 7).map((end) => Math.min(end, 6)),
      cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(1, 0),
      advantages: Float64Array.of(1, -1),
    };
    const weights = (options: AnyOptions) =>
      Array.from(cispoSync(batch, { ...options, backend }).gradLogProbs, (g) => -6 * g);
    expectClose(weights({}), [0.01, 0.5, 1.5, 4.9, 5, 5], 1e-14);
    expectClose(weights({ ratioMin: 1 - 0.2, ratioMax: 1 + 0.2 }), [0.8, 0.8, 1.2, 1.2, 1.2, 1.2], 1e-14);
    expect(cispoSync(batch, { backend }).metrics).toMatchObject({ clipFractionLow: 0, clipFractionHigh: 2 / 6 });
  });

  describe('an upstream gradient that differs from token to token (Liger#1298)', () => {
    test('each row is scaled by its own', () => {
      const { logits, targets } = fullBatch(31);
      const random = new Random(1);
      const gradLogProbs = Float64Array.from(targets, () => random.normal());
      const gradEntropy = Float64Array.from(targets, () => random.normal());
      const { logSumExp, entropy } = tokenLogProbsSync({ logits, targets }, { entropy: true, backend });
      const inputs = { logits, targets, logSumExp, entropy: entropy! };
      const all = tokenLogProbsBackwardSync({ ...inputs, gradLogProbs, gradEntropy }, { backend }).gradLogits;
      for (const t of targets.keys()) {
        const only = (values: Float64Array) => values.map((value, k) => (k === t ? value : 0));
        const upstream = { gradLogProbs: only(gradLogProbs), gradEntropy: only(gradEntropy) };
        const one = tokenLogProbsBackwardSync({ ...inputs, ...upstream }, { backend }).gradLogits;
        expect(one.subarray(5 * t, 5 * t + 5)).toEqual(all.subarray(5 * t, 5 * t + 5));
        expect(one.filter((g, k) => g !== 0 && Math.floor(k / 5) !== t).length).toBe(0);
      }
    });

    test('advantages that differ from token to token scale each row by its own', () => {
      const { oldLogProbs: _old, ...batch } = fullBatch(32);
      const random = new Random(2);
      const advantages = Float64Array.from(batch.targets, () => random.normal());
      const options = { aggregation: 'token-mean' as const, backend };
      const ones = dapoSync({ ...batch, advantages: advantages.map(() => 1) }, options).gradLogits;
      const { gradLogits } = dapoSync({ ...batch, advantages }, options);
      expectClose(
        gradLogits,
        ones.map((g, k) => g * advantages[Math.floor(k / 5)]),
        1e-7,
      );
    });
  });

  test('more than 65535 rows, sequences and groups, a limit of CUDA grids (Liger#1294)', () => {
    const many = 65_540;
    // The emulation checks the grid of every launch, but takes a minute for the rows of so many tokens.
    const groups = backend === 'cuda' && emulation ? 600 : many;
    const random = new Random(3);
    const rowsOf = (G: number) => ({
      // One row per group: the sequences with reward 1 are empty.
      cuSeqlens: Int32Array.from({ length: 2 * G + 1 }, (_, i) => Math.ceil(i / 2)),
      cuGroups: Int32Array.from({ length: G + 1 }, (_, g) => 2 * g),
      rewards: Float32Array.from({ length: 2 * G }, (_, i) => i % 2),
      targets: new Int32Array(G),
    });
    const logits = Float32Array.from({ length: 2 * groups }, () => random.normal());
    const { gradLogits, groupLosses } = conspoSync({ logits, ...rowsOf(groups) }, { normalizer: 1, backend });
    const kept = 3; // the last groups give alone what they give in the whole batch
    const alone = conspoSync({ logits: logits.slice(-2 * kept), ...rowsOf(kept) }, { normalizer: 1, backend });
    expectClose(gradLogits.slice(-2 * kept), alone.gradLogits, 1e-6);
    expectClose(groupLosses.slice(-kept), alone.groupLosses, 1e-6);
    for (let g = 0; g < groups; g += 500) expect(Math.hypot(...gradLogits.slice(2 * g, 2 * g + 2))).toBeGreaterThan(0);

    const { targets: _targets, ...sequences } = rowsOf(many);
    const logProbs = Float64Array.from({ length: many }, () => -random.uniform());
    const policy = grpoSync({ logProbs, ...sequences }, { normalizer: 1, backend });
    const expected = policy.advantages!.filter((_, i) => i % 2 === 0).map((A) => -A);
    expectClose(policy.gradLogProbs, expected, 1e-12);
    expect(Math.min(...expected)).toBeGreaterThan(0);
  });
});
