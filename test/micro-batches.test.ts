import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { disco, type FloatArray, fromRollouts, grpo, microBatches, padded } from '../lib/index.js';
import type { LossName } from '../lib/losses/list.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import {
  byName,
  fromLogProbs,
  fullBatch,
  NAMED_LOSSES,
  POLICY_LOSSES,
  perTokenAdvantages,
} from './support/named-losses.js';

/** The name of a loss in a list that has some of them in several forms. */
const lossOf = (name: string) => name.split(/,| on /)[0] as LossName;

const optionsOf = (name: string, options: object) => (name.includes('plain') ? { ...options, tau: null } : options);

const concatenated = (parts: readonly FloatArray[]) => Float64Array.from(parts.flatMap((part) => Array.from(part)));

/** The largest group of a batch, in tokens. */
function largestGroup({ cuGroups, cuSeqlens }: { cuGroups: Int32Array; cuSeqlens: Int32Array }) {
  const sizes = Array.from(cuGroups.slice(1), (end, g) => cuSeqlens[end] - cuSeqlens[cuGroups[g]]);
  return Math.max(1, ...sizes);
}

describeBackends('micro-batches', (backend) => {
  test.each(byName(NAMED_LOSSES))('%s: losses add up, gradients follow each other', (name, { runSync, options }) => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(6), fc.nat(30), (seed, groups, more) => {
        const batch = fullBatch(seed, { groups });
        const ofLoss = optionsOf(name, options);
        const own = fromLogProbs(batch);
        const whole = runSync(own, { ...ofLoss, backend });
        const limit = { tokens: largestGroup(batch) + more, loss: lossOf(name), options: ofLoss };
        const parts = microBatches(own, limit);
        const results = parts.map((part) => runSync(part.batch, { ...part.options, backend }));
        const sum = results.reduce((total, { loss }) => total + loss, 0);
        expectCloseNumber(sum, whole.loss, 1e-12, 1e-3);
        expectClose(concatenated(results.map(({ gradLogProbs }) => gradLogProbs)), whole.gradLogProbs, 1e-12);
        expectClose(concatenated(results.map(({ scores }) => scores)), whole.scores, 1e-12);
        for (const { batch: part } of parts) expect(part.logProbs.length).toBeLessThanOrEqual(limit.tokens);
      }),
      { numRuns: 15 },
    );
  });

  test.each(byName(POLICY_LOSSES))('%s with its additions', (name, { runSync, options }) => {
    const batch = fullBatch(3, { groups: 6 });
    const additions = {
      klCoef: 0.1,
      entropyCoef: 0.01,
      entropyAggregation: 'token-mean',
      advantage: { estimator: 'opo' },
    } as const;
    for (const aggregation of ['sequence-mean', 'token-mean', 'constant-length'] as const) {
      const ofLoss = { ...options, ...additions, aggregation, maxLength: 9 };
      const whole = runSync(batch, { ...ofLoss, backend });
      const parts = microBatches(batch, { sequences: 5, loss: lossOf(name), options: ofLoss });
      expect(parts.length).toBeGreaterThan(1);
      const results = parts.map((part) => runSync(part.batch, { ...part.options, backend }));
      expectCloseNumber(
        results.reduce((sum, { loss }) => sum + loss, 0),
        whole.loss,
        1e-12,
        1e-3,
      );
      expectClose(concatenated(results.map(({ gradLogits }) => gradLogits)), whole.gradLogits, 1e-6);
    }
  });

  test('in place, the gradients lie where the whole one would', () => {
    const batch = fullBatch(5, { groups: 5 });
    const [, loss] = byName(NAMED_LOSSES).find(([name]) => name === 'dapo')!;
    const expected = loss.runSync(batch, { backend }).gradLogits;
    for (const part of microBatches(batch, { sequences: 5, loss: 'dapo' })) {
      loss.runSync(part.batch, { ...part.options, backend, gradient: 'in-place' });
    }
    expectClose(batch.logits, expected, 1e-6);
  });

  test('advantages per token, replay, and a tensor with padded rows', async () => {
    const { rewards: _rewards, cuGroups: _groups, ...batch } = fullBatch(8, { groups: 5, vocab: 4 });
    const tokens = batch.targets.length;
    const data = new Float32Array(tokens * 6);
    for (let t = 0; t < tokens; t++) data.set(batch.logits.subarray(4 * t, 4 * t + 4), 6 * t);
    const kept = Array.from(batch.targets, (target, t) =>
      t % 2 ? [] : [...new Set([target, (target + 1) % 4])].sort(),
    );
    const cuKept = Int32Array.from({ length: tokens + 1 }, (_, t) => kept.slice(0, t).flat().length);
    const given = {
      ...batch,
      logits: { data, shape: [tokens, 4] as const, rowStride: 6 },
      keptIds: Int32Array.from(kept.flat()),
      cuKept,
      advantages: perTokenAdvantages(8, fullBatch(8, { groups: 5, vocab: 4 })),
    };
    const whole = await grpo(given, { backend });
    const parts = microBatches(given, { tokens: 12, loss: 'grpo' });
    let sum = 0;
    for (const part of parts) {
      const { loss, gradLogits } = await grpo(part.batch, { ...part.options, backend });
      const { begin } = { begin: part.batch.targets.byteOffset / 4 };
      expect(gradLogits.data.length).toBeGreaterThanOrEqual(part.batch.targets.length * 4);
      expect(part.batch.logits.data.byteOffset).toBe(begin * 6 * 4);
      sum += loss;
    }
    expect(parts.length).toBeGreaterThan(2);
    expectCloseNumber(sum, whole.loss, 1e-12, 1e-3);
  });

  test('hidden states: the gradients of the weight add up', async () => {
    const { logits: hidden, ...batch } = fullBatch(9, { groups: 5, vocab: 5 });
    const weight = Float32Array.from({ length: 25 }, (_, i) => Math.sin(i));
    const given = { ...batch, hidden, weight };
    const whole = await disco(given, { backend });
    const gradWeight = new Float32Array(25);
    const gradHidden: FloatArray[] = [];
    for (const part of microBatches(given, { sequences: 5, loss: 'disco' })) {
      expect(part.batch.weight).toBe(weight);
      const result = await disco(part.batch, { ...part.options, backend, gradWeight: { accumulate: gradWeight } });
      gradHidden.push(result.gradHidden as Float32Array);
    }
    expectClose(gradWeight, whole.gradWeight as Float32Array, 1e-5);
    expectClose(concatenated(gradHidden), whole.gradHidden as Float32Array, 1e-5);
  });
});

describe('microBatches', () => {
  const rollouts = fromRollouts({
    promptIds: [[1, 2], [3], [1]],
    answers: [[[2], [0, 1]], [[3], [3], [1]], [[2, 2]]],
    rewards: [[1, 0], [0, 0, 1], [1]],
  });

  test('of rollouts that have no logits yet, padded', async () => {
    const logitsOf = ({ inputIds }: { inputIds: Int32Array }) =>
      Float32Array.from({ length: inputIds.length * 4 }, (_, i) => Math.sin(inputIds[Math.floor(i / 4)] + (i % 4)));
    const whole = await grpo(padded({ ...rollouts, logits: logitsOf(rollouts), vocab: 4 }));
    const parts = microBatches(rollouts, { tokens: 3 * rollouts.shape[1], loss: 'grpo' });
    expect(parts.map(({ batch }) => batch.shape)).toEqual([
      [2, 4],
      [3, 4],
      [1, 4],
    ]);
    let sum = 0;
    for (const { batch, options } of parts) {
      const { loss } = await grpo(padded({ ...batch, logits: logitsOf(batch), vocab: 4 }), options);
      sum += loss;
    }
    expectCloseNumber(sum, whole.loss, 1e-12, 1e-3);
  });

  test('parts are views of whole groups, in order; fields of your own stay', () => {
    const packed = fromRollouts(
      { promptIds: [[1], [2], [3]], answers: [[[4]], [], [[5], [6]]], rewards: [[1], [], [0, 1]] },
      { padding: 'none' },
    );
    const parts = microBatches({ ...packed, name: 'mine' }, { sequences: 2, loss: 'conspo' });
    expect(
      parts.map(({ batch, options }) => [Array.from(batch.cuGroups), Array.from(batch.cuSeqlens), options]),
    ).toEqual([
      [[0, 1, 1], [0, 2], { normalizer: 3 }],
      [[0, 2], [0, 2, 4], { normalizer: 3 }],
    ]);
    for (const { batch } of parts) {
      expect(batch.name).toBe('mine');
      expect(batch.inputIds.buffer).toBe(packed.inputIds.buffer);
      expect(batch.rewards.buffer).toBe(packed.rewards.buffer);
    }
  });

  test('nothing has no parts', () => {
    const none = { cuSeqlens: Int32Array.of(0), cuGroups: Int32Array.of(0), rewards: new Float32Array(0) };
    expect(microBatches(none, { tokens: 5, loss: 'grpo' })).toEqual([]);
  });

  const batch = fromLogProbs(fullBatch(2, { groups: 4 }));
  const limit = { tokens: 1000, loss: 'grpo' };
  test.each<[change: object, options: unknown, code: string, message: string | RegExp]>([
    [{}, undefined, 'ERR_DTYPE', 'options: expected an object, got undefined'],
    [{}, { loss: 'grpo' }, 'ERR_RANGE', 'options: expected either tokens or sequences, got neither'],
    [{}, { ...limit, sequences: 2 }, 'ERR_RANGE', 'options: expected either tokens or sequences, got both'],
    [{}, { ...limit, tokens: 1 }, 'ERR_RANGE', /^tokens: expected at least the \d+ of group \d, got 1$/],
    [{}, { ...limit, tokens: 0 }, 'ERR_RANGE', 'tokens: expected a whole number at least 1'],
    [{}, { ...limit, loss: 'ppo' }, 'ERR_RANGE', "loss: expected 'conspo' or"],
    [{}, { ...limit, token: 3 }, 'ERR_OPTION', 'token: no such option of microBatches; did you mean tokens?'],
    [{}, { ...limit, options: { normalizer: 3 } }, 'ERR_RANGE', 'options.normalizer: expected none'],
    [
      {},
      { ...limit, options: { entropyQuantile: 0.2 } },
      'ERR_RANGE',
      'options.entropyQuantile: expected none, since it looks at the whole batch, got 0.2',
    ],
    [
      {},
      { ...limit, options: { advantage: { scale: 'batch' } } },
      'ERR_RANGE',
      'options.advantage.scale: expected none',
    ],
    [
      {},
      { ...limit, options: { advantage: { estimator: 'gdpo' } } },
      'ERR_RANGE',
      'options.advantage.estimator: expected none',
    ],
    [
      {},
      { ...limit, options: { rolloutCorrection: { normalize: true } } },
      'ERR_RANGE',
      'options.rolloutCorrection.normalize: expected',
    ],
    [
      {},
      { ...limit, loss: 'dapo', options: { rolloutCorrection: { reject: {} } } },
      'ERR_RANGE',
      'options.rolloutCorrection.reject: expected',
    ],
    [
      {},
      { ...limit, loss: 'disco', options: { klConstraint: {} } },
      'ERR_RANGE',
      'options.klConstraint: expected none',
    ],
    [{}, { ...limit, loss: 'drGrpo' }, 'ERR_RANGE', 'options.maxLength: expected a number, got undefined'],
    [
      {},
      { ...limit, options: { aggregation: 'mean' } },
      'ERR_RANGE',
      "options.aggregation: expected 'sequence-mean' or",
    ],
    [
      { cuGroups: undefined },
      { ...limit, loss: 'conspo' },
      'ERR_DTYPE',
      'cuGroups: expected Int32Array, for a loss of groups',
    ],
    [{ groupOrder: Int32Array.of(0) }, limit, 'ERR_RANGE', 'groupOrder: expected none: groups that lie side by side'],
    [{ shape: [2, 3] }, limit, 'ERR_RANGE', 'cuSeqlens: expected none beside the shape of a padded batch'],
    [{ cuSeqlens: undefined, shape: [2] }, limit, 'ERR_SHAPE', 'shape: expected [B, L]'],
    [{ mask: new Uint8Array(1) }, limit, 'ERR_SHAPE', 'mask: expected length'],
    [{ rewards: new Float32Array(1) }, limit, 'ERR_SHAPE', 'rewards: expected length'],
    [{ oldLogProbs: [1] }, limit, 'ERR_DTYPE', 'oldLogProbs: expected Float32Array or Float64Array'],
    [{ old_log_probs: new Float32Array(1), oldLogProbs: undefined }, limit, 'ERR_OPTION', 'did you mean oldLogProbs?'],
  ])('bad input %#', (change, options, code, message) => {
    expect(() => microBatches({ ...batch, ...change } as never, options as never)).toThrow(rlvrError(code, message));
  });

  test('logits of other sizes', () => {
    const { logits: _logits, ...rest } = fullBatch(2);
    const tokens = rest.targets.length;
    const cut = (logits: unknown) => () => microBatches({ ...rest, logits } as never, { tokens: 1000, loss: 'grpo' });
    expect(cut(new Float32Array(tokens * 5 + 1))).toThrow(rlvrError('ERR_SHAPE', 'logits: expected a multiple of'));
    expect(cut({ data: new Float32Array(5), shape: [1, 5] })).toThrow(rlvrError('ERR_SHAPE', 'logits.shape: expected'));
  });

  test('a part in which advantages per token would pass for some per sequence', () => {
    const given = {
      logProbs: Float32Array.of(-1, -2, -3),
      cuSeqlens: Int32Array.of(0, 2, 2, 3, 3),
      advantages: Float32Array.of(1, 2, 3),
    };
    expect(() => microBatches(given, { sequences: 2, loss: 'grpo' })).toThrow(
      rlvrError('ERR_RANGE', 'advantages: expected no part in which [T] would pass for [N], got one of 2 sequences'),
    );
    expect(microBatches(given, { sequences: 1, loss: 'grpo' }).map(({ batch }) => batch.advantages.length)).toEqual([
      2, 0, 1, 0,
    ]);
  });
});
