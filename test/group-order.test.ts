// Sequences in any order with a `groupOrder`: the loss of the grouped batch, every score and gradient where its sequence is.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  advantages,
  conspoSync,
  defineLoss,
  discriminative,
  fromDense,
  groupInfoNCE,
  groupInfoNCESync,
  grpoSync,
  infoNCE,
  padded,
} from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import {
  type AnyOptions,
  byName,
  type FullBatch,
  fullBatch,
  NAMED_LOSSES,
  type NamedLoss,
} from './support/named-losses.js';
import { permutation, reordered, rowOf, segmentOf } from './support/packed.js';

const VOCAB = 4;

/** Where each sequence went: `order[k]` is at k. */
function inverse(order: readonly number[]): Int32Array {
  const places = new Int32Array(order.length);
  order.forEach((i, k) => {
    places[i] = k;
  });
  return places;
}

/** A batch whose k-th sequence is the given one's `order[k]`, with the group order that says where each group went. */
function shuffled(batch: FullBatch, order: number[]) {
  const { moved, tokens } = reordered(batch, order, VOCAB);
  const rolloutLogProbs = Float64Array.from(tokens, (t) => batch.rolloutLogProbs[t]);
  return { shuffledBatch: { ...moved, rolloutLogProbs, cuGroups: batch.cuGroups, groupOrder: inverse(order) }, tokens };
}

const BEYOND: NamedLoss[] = (
  [
    ['infoNCE on ratios', defineLoss({ score: { kind: 'clippedRatio' }, objective: infoNCE })],
    ['discriminative on log-likelihoods', defineLoss({ score: 'logLikelihood', objective: discriminative })],
  ] as const
).map(([name, { run, runSync }]) => ({ name, over: 'groups', options: {}, run, runSync }) as NamedLoss);

describeBackends('groupOrder', (backend) => {
  const expectShuffled = (loss: NamedLoss, options: AnyOptions, seed: number) => {
    const batch = fullBatch(seed, { vocab: VOCAB, groups: 4 });
    const order = permutation(batch.rewards.length, seed);
    const { shuffledBatch, tokens } = shuffled(batch, order);
    const all = { ...loss.options, ...options, backend };
    const expected = loss.runSync(batch, all);
    const actual = loss.runSync(shuffledBatch, all);
    expectCloseNumber(actual.loss, expected.loss, 1e-14, 1);
    expect(Array.from(actual.scores)).toEqual(order.map((i) => expected.scores[i]));
    const rows = tokens.flatMap((t) => Array.from(rowOf(expected.gradLogits, t, VOCAB)));
    expect(Array.from(actual.gradLogits)).toEqual(rows);
    expect(actual.groupLosses).toEqual(expected.groupLosses);
    if (expected.advantages) {
      expect(Array.from(actual.advantages!)).toEqual(order.map((i) => expected.advantages![i]));
    }
    for (const [name, value] of Object.entries(expected.metrics)) {
      expectCloseNumber(actual.metrics[name as 'tokens'], value, 1e-13, 1e-2);
    }
  };

  test.each(byName([...NAMED_LOSSES, ...BEYOND]))('%s: random orders', (_name, loss) => {
    fc.assert(
      fc.property(fc.integer(), (seed) => expectShuffled(loss, {}, seed)),
      { numRuns: 12 },
    );
  });

  test.each<[name: string, options: AnyOptions]>([
    ['opo, which weighs by length', { advantage: { estimator: 'opo' } }],
    ['rloo', { advantage: { estimator: 'rloo' } }],
    ['every addition', { klCoef: 0.1, entropyCoef: 0.1, rolloutCorrection: { level: 'sequence' } }],
  ])('%s', (_name, options) => {
    fc.assert(
      fc.property(fc.integer(), (seed) => expectShuffled(NAMED_LOSSES[0], options, seed)),
      { numRuns: 12 },
    );
  });

  test('through fromDense: ids of any kind, in any order', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const batch = fullBatch(seed, { vocab: VOCAB, groups: 4 });
        const order = permutation(batch.rewards.length, seed);
        const { shuffledBatch } = shuffled(batch, order);
        const ids = order.map((i) => `prompt ${segmentOf(batch.cuGroups, i)}`);
        const dense = { ...shuffledBatch, ...fromDense(ids) };
        const normalizer = 4; // dense ids know nothing of empty groups
        const [expected, actual] = [batch, dense].map((b) => conspoSync(b, { normalizer, backend }));
        expectCloseNumber(actual.loss, expected.loss, 1e-14, 1e-3);
        const named = [...new Set(ids)].map((id) => expected.groupLosses[Number(id.slice(7))]);
        expectClose(actual.groupLosses, named, 1e-13);
        expect(Array.from(actual.scores)).toEqual(order.map((i) => expected.scores[i]));
        expectClose(advantages(dense), advantages(shuffledBatch), 1e-14); // each group's sum in its own order
      }),
      { numRuns: 20 },
    );
  });

  test('with padded batches', () => {
    const random = new Random(3);
    const [B, L] = [6, 4];
    const logits = Float32Array.from({ length: B * L * VOCAB }, () => random.uniform());
    const rest = {
      shape: [B, L] as const,
      logits,
      targets: new Int32Array(B * L),
      mask: new Uint8Array(B * L).fill(1),
      rewards: Float32Array.of(1, 0, 1, 0, 0, 1),
    };
    const result = grpoSync(padded({ ...rest, ...fromDense([7, 5, 5, 7, 5, 7]) }), { backend });
    const half = 1 / (2 * (Math.sqrt(1 / 3) + 1e-4));
    expectClose(
      result.advantages!,
      [half * (2 / 3), half * (-2 / 3), half * (4 / 3), half * (-4 / 3), half * (-2 / 3), half * (2 / 3)],
      1e-12,
    );
    expect(result.metrics.contrastiveGroups).toBe(2);
  });

  test('the identity changes nothing, nor does undefined', () => {
    const batch = fullBatch(3, { vocab: VOCAB, groups: 4 });
    const groupOrder = Int32Array.from(batch.rewards, (_, i) => i);
    for (const { name, runSync, options } of NAMED_LOSSES) {
      const expected = runSync(batch, { ...options, backend });
      expect(runSync({ ...batch, groupOrder }, { ...options, backend }), name).toEqual(expected);
      expect(runSync({ ...batch, groupOrder: undefined }, { ...options, backend }), name).toEqual(expected);
    }
  });

  test('groupInfoNCE', async () => {
    const inputs = {
      scores: Float64Array.of(-1, -2, -3, -4, -5),
      rewards: Float32Array.of(1, 0, 0, 1, 1),
      tokenCounts: Float64Array.of(1, 1, 1, 1, 0),
      cuGroups: Int32Array.of(0, 2, 5),
    };
    const groupOrder = Int32Array.of(3, 1, 4, 0, 2); // groups {3, 1} and {4, 0, 2}
    const sorted = (values: ArrayLike<number>) => Float64Array.from(groupOrder, (i) => values[i]);
    const expected = groupInfoNCESync(
      {
        scores: sorted(inputs.scores),
        rewards: sorted(inputs.rewards),
        tokenCounts: sorted(inputs.tokenCounts),
        cuGroups: inputs.cuGroups,
      },
      { tau: 0.7, backend },
    );
    const actual = groupInfoNCESync({ ...inputs, groupOrder }, { tau: 0.7, backend });
    expect([actual.loss, actual.groupLosses]).toEqual([expected.loss, expected.groupLosses]);
    expect(sorted(actual.gradScores)).toEqual(expected.gradScores);
    expect(await groupInfoNCE({ ...inputs, groupOrder }, { tau: 0.7, backend })).toEqual(actual);
  });

  describe('refused, by name', () => {
    const batch = fullBatch(3, { vocab: VOCAB, groups: 4 });
    const N = batch.rewards.length;
    const order = Int32Array.from(batch.rewards, (_, i) => i);

    test.each<[name: string, groupOrder: unknown, code: string, message: string]>([
      ['a list of strings', Array.from(order, String), 'ERR_DTYPE', 'groupOrder: expected numbers, got "'],
      ['too short', order.slice(1), 'ERR_SHAPE', `groupOrder: expected length ${N} (N, one index per sequence)`],
      [
        'out of range',
        order.map((i) => i + 1),
        'ERR_RANGE',
        `groupOrder: expected sequence indices in [0, ${N}), got ${N}`,
      ],
      ['negative', order.map((i) => (i === 2 ? -1 : i)), 'ERR_RANGE', 'got -1 at index 2'],
      [
        'twice',
        order.map((i) => (i === 2 ? 1 : i)),
        'ERR_RANGE',
        'groupOrder: expected each sequence once, got 1 again at index 2',
      ],
      ['null', null, 'ERR_DTYPE', 'groupOrder: expected Int32Array, got null'],
    ])('%s', (_name, groupOrder, code, message) => {
      const error = rlvrError(code, message);
      const bad = { ...batch, groupOrder: groupOrder as never };
      for (const { runSync, options } of NAMED_LOSSES)
        expect(() => runSync(bad, { ...options, backend })).toThrow(error);
      const scores = new Float64Array(N);
      expect(() => groupInfoNCESync({ ...bad, scores }, { backend })).toThrow(error);
      expect(() => advantages(bad)).toThrow(error);
    });
  });
});

describe('advantages with a groupOrder', () => {
  test.each(['grpo', 'drGrpo', 'rloo', 'opo'] as const)(
    '%s: each sequence gets what it gets in its group',
    (estimator) => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const { rewards, cuGroups } = fullBatch(seed, { vocab: 2, groups: 4 });
          const varied = rewards.map((r, i) => r + (i % 3));
          const tokenCounts = Float64Array.from(rewards, (_, i) => 1 + (i % 4));
          const order = permutation(rewards.length, seed);
          const expected = advantages({ rewards: varied, cuGroups, tokenCounts }, { estimator });
          const moved = {
            rewards: Float32Array.from(order, (i) => varied[i]),
            tokenCounts: Float64Array.from(order, (i) => tokenCounts[i]),
          };
          const actual = advantages({ ...moved, cuGroups, groupOrder: inverse(order) }, { estimator });
          expect(Array.from(actual)).toEqual(order.map((i) => expected[i]));
        }),
      );
    },
  );

  test('in numbers', () => {
    const rewards = Float32Array.of(1, 5, 0, 5);
    const groups = fromDense(['a', 'b', 'a', 'b']);
    expect(Array.from(advantages({ rewards, ...groups }, { estimator: 'drGrpo' }))).toEqual([0.5, 0, -0.5, 0]);
  });
});
