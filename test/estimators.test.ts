// What each estimator makes of rewards, alone and in a loss.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { type AdvantageEstimator, type AdvantagesOptions, advantages, dapoSync, gmpoSync, grpo } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { estimatorGoldenCases } from './support/golden.js';
import { byName, fromLogProbs, fullBatch, POLICY_LOSSES } from './support/named-losses.js';
import { indicesIn, permutation, spreadOver, tokenCountsOf, tokensOf } from './support/packed.js';

const WHITENING = ['gdpo', 'reinforcePlusPlus', 'reinforcePlusPlusBaseline'] as const;
const whitens = (estimator: string | undefined) => (WHITENING as readonly unknown[]).includes(estimator);

const OPTIONS: AdvantagesOptions[] = [
  { scale: 'group' },
  { scale: 'batch', ddof: 0 },
  { scale: 'none' },
  { estimator: 'maxRl' },
  { estimator: 'passK' },
  { estimator: 'passK', scale: 'batch', eps: 1e-2 },
  { estimator: 'gpg' },
  { estimator: 'gdpo' },
  { estimator: 'gdpo', weights: [1], scale: 'none' },
  { estimator: 'reinforcePlusPlus' },
  { estimator: 'reinforcePlusPlusBaseline' },
];
const named = OPTIONS.map((options): [string, AdvantagesOptions] => [JSON.stringify(options), options]);

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
const mean = (values: readonly number[]) => sum(values) / Math.max(values.length, 1);
const std = (values: readonly number[], ddof = 1) =>
  Math.sqrt(sum(values.map((x) => (x - mean(values)) ** 2)) / Math.max(values.length - ddof, 1));

type Rewarded = Pick<ReturnType<typeof fullBatch>, 'cuSeqlens' | 'cuGroups' | 'mask'>;

/** As the authors write it, from plain lists: [N], of one reward for each sequence. */
function oracle(batch: Rewarded, rewards: number[], options: AdvantagesOptions): number[] {
  const { estimator = 'grpo', scale = 'group', ddof = 1, eps = 1e-4, weights = [1] } = options;
  const groups = Array.from({ length: batch.cuGroups.length - 1 }, (_, g) => indicesIn(batch.cuGroups, g));
  const out = rewards.map(() => 0);
  for (const members of groups) {
    const own = members.map((i) => rewards[i]);
    const deviation = { group: std(own, ddof) + eps, batch: std(rewards, ddof) + eps, none: 1 }[scale];
    const [best, second = best] = [...own].sort((a, b) => b - a);
    const first = members[own.indexOf(best)];
    const over = rewards.length / Math.max(rewards.filter((r) => r !== 0).length, 1);
    for (const i of members) {
      const R = rewards[i];
      const values: Record<string, () => number> = {
        grpo: () => (R - mean(own)) / deviation,
        gdpo: () => (weights[0] * (R - mean(own))) / deviation,
        maxRl: () => (mean(own) > 0 ? (R - mean(own)) / mean(own) : 0),
        passK: () => (i === first ? (best - second) / deviation : 0),
        gpg: () => (own.length === 1 ? R : R - mean(own)) * over,
        reinforcePlusPlus: () => R,
        reinforcePlusPlusBaseline: () => (own.length === 1 ? R : R - mean(own)),
      };
      out[i] = values[estimator]();
    }
  }
  if (!whitens(estimator)) return out;
  const tokens = out.flatMap((value, i) => tokensOf(batch, i).map(() => value));
  return out.map((value) => (value - mean(tokens)) / Math.sqrt(std(tokens) ** 2 + 1e-8));
}

const kept = (batch: Rewarded, values: ArrayLike<number>) =>
  spreadOver(batch, values).map((value, t) => (batch.mask[t] ? value : 0));

test.each(estimatorGoldenCases())('%s', (_name, { input, options, expected }) => {
  const { estimator, ...others } = options;
  const own = { ...others, ...(estimator === 'grpoBatch' ? { scale: 'batch' } : { estimator }) } as AdvantagesOptions;
  const result = advantages(
    {
      rewards: Float64Array.from(input.rewards),
      cuGroups: Int32Array.from(input.cuGroups),
      cuSeqlens: Int32Array.from(input.cuSeqlens),
      mask: Uint8Array.from(input.mask),
    },
    own,
  );
  expectClose(result, expected.advantages, 1e-12);
});

describe.each(named)('%s', (_name, options) => {
  const lengths = (batch: Rewarded) => ({ cuSeqlens: batch.cuSeqlens, mask: batch.mask, cuGroups: batch.cuGroups });

  test('random rewards, some equal, some 0: the formula', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const batch = fullBatch(seed, { groups: 4 });
        const random = new Random(seed);
        const rewards = Float64Array.from(batch.rewards, () => Math.round(4 * random.normal()) / 4);
        const result = advantages({ rewards, ...lengths(batch) }, options);
        const expected = oracle(batch, Array.from(rewards), options);
        // Where all are equal the formula leaves rounding, divided by as little as 1e-4.
        expectClose([1, ...result], [1, ...(whitens(options.estimator) ? kept(batch, expected) : expected)], 1e-11);
      }),
      { numRuns: 100 },
    );
  });

  test('groups in another order, by groupOrder', () => {
    const batch = fullBatch(5, { groups: 4 });
    const { length } = batch.rewards;
    const order = Int32Array.from(permutation(length, 3));
    const rewards = Float64Array.from({ length }, (_, i) => Math.sin(i));
    const alone = { cuSeqlens: Int32Array.from({ length: length + 1 }, (_, i) => i), cuGroups: batch.cuGroups };
    const expected = advantages({ rewards: rewards.map((_, k) => rewards[order[k]]), ...alone }, options);
    const result = advantages({ rewards, ...alone, groupOrder: order }, options);
    expectClose(
      Array.from(order, (i) => result[i]),
      expected,
      1e-12,
    );
  });

  test('equal rewards and nothing give exactly 0', () => {
    const equal = { rewards: new Float32Array(5).fill(0.1), cuGroups: Int32Array.of(0, 2, 5) };
    const cuSeqlens = Int32Array.of(0, 2, 3, 3, 4, 6);
    const length = whitens(options.estimator) ? 6 : 5;
    expect(advantages({ ...equal, cuSeqlens }, { ...options, ...(options.eps && { eps: 0 }) })).toEqual(
      new Float64Array(length),
    );
    const masked = { ...equal, cuSeqlens, mask: new Uint8Array(6) };
    expect(advantages(masked, options)).toEqual(new Float64Array(length));
    const none = { rewards: new Float32Array(), cuGroups: Int32Array.of(0), cuSeqlens: Int32Array.of(0) };
    expect(advantages(none, options)).toEqual(new Float64Array());
  });

  test.each([1000, 600, -500])('rewards times 2^%i', (power) => {
    const small = Float64Array.of(1, 0.25, -0.75, 0.5, -0.25);
    const inputs = { cuGroups: Int32Array.of(0, 3, 5), cuSeqlens: Int32Array.of(0, 1, 2, 3, 5, 9) };
    const result = advantages({ ...inputs, rewards: small.map((x) => x * 2 ** power) }, { ...options, eps: 0 });
    const { estimator = 'grpo', scale = 'group' } = options;
    const linear = estimator === 'gpg' || (scale === 'none' && estimator === 'grpo');
    if (whitens(estimator) && power < 0) {
      // 1e-8 is more than their variance
      if (estimator !== 'gdpo' || scale === 'none')
        return expect(Math.max(...result.map(Math.abs))).toBeLessThan(1e-100);
    }
    const expected = advantages({ ...inputs, rewards: small }, { ...options, eps: 0 });
    const large = whitens(estimator) && (estimator !== 'gdpo' || scale === 'none');
    expectClose(linear ? result.map((x) => x / 2 ** power) : result, expected, large ? 1e-7 : 1e-12);
  });
});

test('gdpo: several rewards, weighted', () => {
  const batch = fullBatch(9, { groups: 4 });
  const [first, second] = [batch.rewards, batch.rewards.map((_, i) => Math.cos(i))];
  const rewards = Float64Array.from({ length: 2 * first.length }, (_, k) => [first, second][k % 2][k >> 1]);
  const { cuSeqlens, cuGroups, mask } = batch;
  const columns = [first, second].map((column) => oracle(batch, Array.from(column), {}));
  const total = columns[0].map((value, i) => value + 0.5 * columns[1][i]);
  const tokens = total.flatMap((value, i) => tokensOf(batch, i).map(() => value));
  const expected = total.map((value) => (value - mean(tokens)) / Math.sqrt(std(tokens) ** 2 + 1e-8));
  for (const weights of [[1, 0.5], Float64Array.of(1, 0.5)]) {
    const result = advantages({ rewards, cuSeqlens, cuGroups, mask }, { estimator: 'gdpo', weights });
    expectClose(result, kept(batch, expected), 1e-12);
  }
  const alike = advantages({ rewards, cuSeqlens, cuGroups, mask }, { estimator: 'gdpo' });
  expect(alike).toEqual(advantages({ rewards, cuSeqlens, cuGroups, mask }, { estimator: 'gdpo', weights: [1, 1] }));
});

test('opo: tokens counted from cuSeqlens and mask', () => {
  const { rewards, cuSeqlens, cuGroups, mask } = fullBatch(3, { groups: 4 });
  const tokenCounts = tokenCountsOf({ cuSeqlens, mask });
  const expected = advantages({ rewards, cuGroups, tokenCounts }, { estimator: 'opo' });
  expect(advantages({ rewards, cuGroups, cuSeqlens, mask }, { estimator: 'opo' })).toEqual(expected);
});

describeBackends('estimators in losses', (backend) => {
  describe.each(byName(POLICY_LOSSES))('%s', (_name, loss) => {
    test.each(named)('%s', (_options, advantage) => {
      const batch = fromLogProbs(fullBatch(6, { groups: 4 }));
      const own = Float64Array.from(oracle(batch, Array.from(batch.rewards), advantage));
      const expected = loss.runSync({ ...batch, advantages: own }, { ...loss.options, backend });
      const result = loss.runSync(batch, { ...loss.options, advantage, backend });
      expectCloseNumber(result.loss, expected.loss, 1e-12, 1e-2);
      expectClose(result.gradLogProbs, expected.gradLogProbs, 1e-12);
      const { rewards, cuSeqlens, cuGroups, mask } = batch;
      expect(result.advantages).toEqual(advantages({ rewards, cuSeqlens, cuGroups, mask }, advantage));
    });
  });

  test('gdpo: metrics are of the weighted sum, and tokens that are skipped do not count', async () => {
    const batch = fullBatch(4, { groups: 3 });
    const N = batch.rewards.length;
    const rewards = Float64Array.from({ length: 2 * N }, (_, k) => (k % 2 ? Math.cos(k) : batch.rewards[k >> 1]));
    const added = Float64Array.from({ length: N }, (_, i) => rewards[2 * i] + 3 * rewards[2 * i + 1]);
    const advantage = { estimator: 'gdpo', weights: [1, 3] } as const;
    const skipped = batch.mask.indexOf(1);
    const logits = batch.logits.map((z, k) => (Math.floor(k / 5) === skipped ? Number.NaN : z));
    const mask = batch.mask.map((m, t) => (t === skipped ? 0 : m));
    const expected = await grpo({ ...batch, mask, rewards: added }, { backend });
    const result = await grpo({ ...batch, logits, rewards }, { advantage, backend, onNonFinite: 'skip' });
    expect(result.metrics.rewardMean).toBe(expected.metrics.rewardMean);
    expect(result.metrics.contrastiveGroups).toBe(expected.metrics.contrastiveGroups);
    expect(result.advantages).toEqual(advantages({ ...batch, mask, rewards }, advantage));
    const { logProbs: _none, ...pure } = { ...batch, logProbs: undefined };
    const given = await grpo({ ...pure, rewards, advantages: batch.rewards }, { advantage, backend });
    expect(given.advantages).toEqual(Float64Array.from(batch.rewards));
  });

  test.each<[options: AdvantagesOptions, rewards: number, code: string, message: RegExp]>([
    [{ scale: 'batch', estimator: 'rloo' }, 3, 'ERR_RANGE', /^scale: expected none but with 'grpo', .*"batch"$/],
    [{ scale: 'std' as 'group' }, 3, 'ERR_RANGE', /^scale: expected 'group' or 'batch' or 'none'/],
    [{ weights: [1] }, 3, 'ERR_RANGE', /^weights: expected none but with 'gdpo'/],
    [{ estimator: 'gdpo', weights: [] }, 3, 'ERR_SHAPE', /^weights: expected 1 to 1000 numbers, got 0$/],
    [{ estimator: 'gdpo', weights: [1, Number.NaN] }, 6, 'ERR_RANGE', /^weights\[1\]: expected a finite number/],
    [{ estimator: 'gdpo', weights: 2 as never }, 3, 'ERR_DTYPE', /^weights: expected an array of numbers, got 2$/],
    [{ estimator: 'gdpo', weights: [1, 2] }, 3, 'ERR_SHAPE', /^rewards: expected length 6 \(N \* K, 2 per sequence\)/],
    [{ estimator: 'gdpo' }, 4, 'ERR_SHAPE', /^rewards: expected length 6 .*got length 4$/],
    [{ estimator: 'grpo' }, 6, 'ERR_SHAPE', /^(cuGroups|rewards): expected/],
    [{ estimator: 'gae' as AdvantageEstimator }, 3, 'ERR_RANGE', /^estimator: expected 'grpo' or .* got "gae"$/],
  ])('refused: %o', (advantage, length, code, message) => {
    const rewards = new Float64Array(length).fill(0.5);
    const cuGroups = Int32Array.of(0, 3);
    const cuSeqlens = Int32Array.of(0, 1, 2, 3);
    const error = rlvrError(code, message);
    expect(() => advantages({ rewards, cuGroups, cuSeqlens }, advantage)).toThrow(error);
    const batch = { logProbs: Float64Array.of(-1, -2, -3), rewards, cuGroups, cuSeqlens };
    expect(() => dapoSync(batch, { advantage, backend })).toThrow(error);
  });

  test('refused: whitening without the tokens of each sequence', () => {
    const inputs = { rewards: Float32Array.of(1, 0), cuGroups: Int32Array.of(0, 2) };
    for (const estimator of WHITENING) {
      expect(() => advantages({ ...inputs, tokenCounts: Float32Array.of(1, 1) }, { estimator })).toThrow(
        rlvrError('ERR_DTYPE', /^cuSeqlens: expected Int32Array/),
      );
      expect(() => advantages({ ...inputs, cuSeqlens: Int32Array.of(0, 2) }, { estimator })).toThrow(
        rlvrError('ERR_SHAPE', /^cuSeqlens: expected length 3 \(N \+ 1\), got length 2$/),
      );
      expect(() =>
        advantages({ ...inputs, cuSeqlens: Int32Array.of(0, 1, 2), mask: new Uint8Array(3) }, { estimator }),
      ).toThrow(rlvrError('ERR_SHAPE', /^mask: expected length 2/));
    }
  });

  test('gmpo takes those that are whitened: they are one per sequence', () => {
    const batch = fromLogProbs(fullBatch(6));
    const result = gmpoSync(batch, { advantage: { estimator: 'reinforcePlusPlus' }, backend });
    expect(result.advantages?.length).toBe(batch.mask.length);
  });
});
