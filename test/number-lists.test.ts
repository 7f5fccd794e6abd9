// Plain arrays of numbers for what a batch has one of per sequence or group: as typed arrays, and copied when the call is made.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { rlvrError } from './support/errors.js';
import { fromLogProbs, fullBatch, NAMED_LOSSES } from './support/named-losses.js';
import { expectRefusal, type Fields } from './support/refusals.js';
import { subjectsOn } from './support/subjects.js';

const WHOLE = ['cuSeqlens', 'cuGroups', 'groupOrder'];
const LISTS = [...WHOLE, 'rewards', 'advantages', 'scores', 'tokenCounts', 'gradScores', 'sides'];

/** The fields with plain arrays of the same numbers, and those arrays. */
function withLists(fields: Fields): { lists: unknown[][]; fields: Fields } {
  const plain = LISTS.filter((name) => fields[name] !== undefined).map(
    (name) => [name, Array.from(fields[name] as Float64Array) as unknown[]] as const,
  );
  return { lists: plain.map(([, list]) => list), fields: { ...fields, ...Object.fromEntries(plain) } };
}

const results = (result: unknown) =>
  Object.fromEntries(Object.entries(result as object).filter(([, value]) => typeof value !== 'function'));

const sums = { cuSeqlens: Int32Array.of(0, 1, 3), cuGroups: Int32Array.of(0, 2), rewards: Float64Array.of(1, 0) };
const small = { logProbs: Float64Array.of(-0.1, -0.5, -0.9), ...sums };

describeBackends('plain arrays', (backend) => {
  test('in every op and loss, and copied at once', async () => {
    const batch = fullBatch(3, { groups: 3 });
    const losses = NAMED_LOSSES.flatMap(({ name, run, runSync, options }) =>
      [() => batch, () => fromLogProbs(batch)].map((inputs) => ({ name, run, runSync, inputs, options })),
    );
    const ops = subjectsOn(backend).map((subject) => ({ ...subject, options: {} }));
    let tried = 0;
    for (const { name, run, runSync, inputs, options } of [...ops, ...losses]) {
      const given = structuredClone(inputs() as Fields);
      const { lists, fields } = withLists(given);
      if (lists.length === 0) continue;
      tried++;
      const call = { ...options, backend } as never;
      const expected = results(runSync(given as never, call));
      expect(results(runSync(fields as never, call)), name).toEqual(expected);
      const pending = run(fields as never, call);
      for (const list of lists) list.fill('changed');
      expect(results(await pending), name).toEqual(expected);
    }
    expect(tried).toBeGreaterThan(2 * NAMED_LOSSES.length + 5);
  });

  test('in forward and its way back', async () => {
    const { logProbs, cuSeqlens } = small;
    const score = { kind: 'clippedRatio' } as const;
    const typed = rlvr.forwardSync({ logProbs, cuSeqlens }, score, { backend, sides: Float64Array.of(1, -1) });
    const sides = [1, -1];
    const lengths = [0, 1, 3];
    const pending = rlvr.forward({ logProbs, cuSeqlens: lengths }, score, { backend, sides });
    sides.fill(NaN);
    lengths.fill(NaN);
    const plain = await pending;
    expect(results(plain)).toEqual(results(typed));
    const slopes = [2, -1];
    const expected = typed.backward(Float64Array.from(slopes));
    expect(rlvr.forwardSync({ logProbs, cuSeqlens: [0, 1, 3] }, score, { sides: [1, -1] }).backward(slopes)).toEqual(
      expected,
    );
    const back = plain.backward(slopes);
    slopes.fill(NaN);
    expect(await back).toEqual(expected);
  });

  test('bad ones are refused by index', async () => {
    const loss = { run: rlvr.grpo as never, runSync: rlvr.grpoSync as never };
    const cases: [field: string, list: unknown[], code: string, message: RegExp][] = [
      ['cuSeqlens', [0, 1.5, 3], 'ERR_RANGE', /cuSeqlens: expected whole numbers of 32 bits, got 1.5 at index 1/],
      ['cuSeqlens', [0, 1, 2 ** 32 + 3], 'ERR_RANGE', /cuSeqlens: .*4294967299 at index 2/],
      ['cuSeqlens', [0, NaN, 3], 'ERR_RANGE', /cuSeqlens: .*NaN at index 1/],
      ['cuSeqlens', [0, Infinity, 3], 'ERR_RANGE', /cuSeqlens: .*Infinity at index 1/],
      ['cuSeqlens', [0, '1', 3], 'ERR_DTYPE', /cuSeqlens: expected numbers, got "1" at index 1/],
      ['cuSeqlens', [0, 2, 1], 'ERR_RANGE', /cuSeqlens: expected offsets that do not decrease, got 1 after 2/],
      ['cuSeqlens', [0, 1, 4], 'ERR_SHAPE', /cuSeqlens: expected a last offset of 3/],
      ['cuSeqlens', [], 'ERR_SHAPE', /cuSeqlens: expected at least one offset/],
      ['cuGroups', [0, 2n], 'ERR_DTYPE', /cuGroups: expected numbers, got 2n at index 1/],
      ['cuGroups', [-1, 2], 'ERR_RANGE', /cuGroups: expected offsets starting at 0/],
      ['groupOrder', [0, 0], 'ERR_RANGE', /groupOrder: expected each sequence once, got 0 again at index 1/],
      ['rewards', [1, NaN], 'ERR_NONFINITE', /rewards: expected finite values, got NaN at index 1/],
      ['rewards', [1, null], 'ERR_DTYPE', /rewards: expected numbers, got null at index 1/],
      ['rewards', Array(2), 'ERR_DTYPE', /rewards: expected numbers, got undefined at index 0/],
      ['rewards', [[1, 0]], 'ERR_DTYPE', /rewards: expected numbers, got an Array of length 2 at index 0/],
      ['rewards', [1], 'ERR_SHAPE', /rewards: expected length 2/],
      ['advantages', [1, -Infinity], 'ERR_NONFINITE', /advantages: expected finite values, got -Infinity at index 1/],
      ['advantages', [1, 2, 3, 4], 'ERR_SHAPE', /advantages: expected length 2/],
      ['mask', [1, 1, 1], 'ERR_DTYPE', /mask: expected Uint8Array/],
      ['oldLogProbs', [-1, -1, -1], 'ERR_DTYPE', /oldLogProbs: expected Float32Array or Float64Array/],
    ];
    for (const [field, list, code, message] of cases)
      await expectRefusal(loss, { ...small, [field]: list }, { backend }, { code, message }, `${field} ${list}`);
  });
});

describe('plain arrays in functions without kernels', () => {
  const { rewards, cuGroups, cuSeqlens } = sums;

  test('advantages, passAtK, RunningRewards', () => {
    const lists = { rewards: [1, 0], cuGroups: [0, 2], cuSeqlens: [0, 1, 3] };
    expect(rlvr.advantages(lists, { estimator: 'opo' })).toEqual(
      rlvr.advantages({ rewards, cuGroups, cuSeqlens }, { estimator: 'opo' }),
    );
    expect(rlvr.passAtK(lists, { k: 1 })).toEqual(rlvr.passAtK({ rewards, cuGroups }, { k: 1 }));
    const [running, other] = [new rlvr.RunningRewards(), new rlvr.RunningRewards()];
    running.update([3, 5]);
    other.update(Float64Array.of(3, 5));
    expect(running.state).toEqual(other.state);
    expect(running.normalized([4])).toEqual(other.normalized(Float64Array.of(4)));
    expect(() => running.update([1, undefined as never])).toThrow(
      rlvrError('ERR_DTYPE', 'rewards: expected numbers, got undefined at index 1'),
    );
    expect(running.state).toEqual(other.state);
  });

  test('padded and microBatches give typed ones', () => {
    const mask = Uint8Array.of(1, 1, 1, 0);
    const logProbs = Float64Array.of(-0.1, -0.2, -0.5, -0.9);
    const batch = rlvr.padded({ shape: [2, 2], mask, logProbs, rewards: [1, 0], cuGroups: [0, 2] });
    expect(batch.rewards).toEqual(Float64Array.of(1, 0));
    expect(batch.cuGroups).toEqual(Int32Array.of(0, 2));
    const [first, second] = rlvr.microBatches(
      { logProbs, cuSeqlens: [0, 2, 4], cuGroups: [0, 1, 2], rewards: [1, 0] },
      { sequences: 1, loss: 'grpo' },
    );
    expect(first.batch.rewards).toEqual(Float64Array.of(1));
    expect(second.batch.cuSeqlens).toEqual(Int32Array.of(0, 2));
    const merged = rlvr.mergeMetrics([first, second], [rlvr.grpoSync(first.batch), rlvr.grpoSync(second.batch)]);
    expect(merged.rewardMean).toBe(0.5);
    const parts = [{ batch: { cuSeqlens: [0, 2], cuGroups: [0, 1], rewards: [1] } }];
    expect(rlvr.mergeMetrics(parts, [{ metrics: { tokens: 2, rewardMean: 1 } }])).toEqual({ tokens: 2, rewardMean: 1 });
  });

  test('an objective of the caller sees typed ones', () => {
    const loss = rlvr.defineLoss({
      score: 'logLikelihood',
      objective: rlvr.scoreObjective(({ rewards, cuGroups, scores }) => {
        expect([rewards, cuGroups]).toEqual([Float64Array.of(1, 0), Int32Array.of(0, 2)]);
        return { loss: 1, gradScores: scores };
      }),
    });
    loss.runSync({ logProbs: small.logProbs, cuSeqlens: [0, 1, 3], cuGroups: [0, 2], rewards: [1, 0] });
  });
});
