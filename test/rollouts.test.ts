import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { conspoSync, fromRollouts, grpoSync, padded, type Rollouts } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';

const VOCAB = 5;

const ids = (shape: fc.ArrayConstraints) => fc.array(fc.nat(VOCAB - 1), shape);
const answer = fc.record({
  ids: ids({ maxLength: 4 }),
  reward: fc.constantFrom(0, 1),
  logProb: fc.double({ min: -3, max: 0, noNaN: true }),
  dropped: fc.nat(5),
});
const prompts = fc.array(
  fc.record({ prompt: ids({ minLength: 1, maxLength: 3 }), answers: fc.array(answer, { maxLength: 3 }) }),
  {
    maxLength: 4,
  },
);

/** Prompts with answers as `fromRollouts` takes them; each token of an answer has a log-prob of its own. */
function rolloutsOf(
  given: { prompt: number[]; answers: { ids: number[]; reward: number; logProb: number; dropped: number }[] }[],
) {
  return {
    promptIds: given.map(({ prompt }) => prompt),
    answers: given.map(({ answers }) => answers.map((one) => one.ids)),
    rewards: given.map(({ answers }) => answers.map((one) => one.reward)),
    logProbs: given.map(({ answers }) => answers.map((one) => one.ids.map((_, t) => one.logProb - t / 8))),
    answerMask: given.map(({ answers }) => answers.map((one) => one.ids.map((_, t) => (t === one.dropped ? 0 : 1)))),
  };
}

/** Logits [T, V] of a causal model: each row is a function of the tokens of its sequence up to it. */
function model(
  { inputIds, attentionMask }: { inputIds: Int32Array; attentionMask: Uint8Array },
  starts: readonly number[],
): Float32Array {
  const logits = new Float32Array(inputIds.length * VOCAB).fill(NaN); // at padding
  starts.forEach((start, i) => {
    const end = starts[i + 1] ?? inputIds.length;
    let state = 0.3;
    for (let t = start; t < end; t++) {
      if (attentionMask[t] === 0) continue;
      state = Math.sin(3 * state + inputIds[t]);
      for (let v = 0; v < VOCAB; v++) logits[t * VOCAB + v] = 2 * Math.cos(7 * state + v);
    }
  });
  return logits;
}

const everyRow = (sequences: number, length: number) => Array.from({ length: sequences }, (_, b) => b * length);

describeBackends('fromRollouts', (backend) => {
  test('right, left and packed give one loss, whatever the length', () => {
    fc.assert(
      fc.property(prompts, fc.nat(3), (given, more) => {
        const rollouts = rolloutsOf(given);
        const packed = fromRollouts(rollouts, { padding: 'none' });
        const starts = Array.from(packed.cuSeqlens.subarray(0, -1));
        const expected = grpoSync({ ...packed, logits: model(packed, starts) }, { backend, temperature: 1.5 });
        for (const padding of ['right', 'left'] as const) {
          const shortest = fromRollouts(rollouts, { padding });
          const length = shortest.shape[1] + more;
          const batch = fromRollouts(rollouts, { padding, length, padId: 4 });
          expect(batch.shape).toEqual([packed.rewards.length, length]);
          const logits = model(batch, everyRow(...batch.shape));
          const actual = grpoSync(padded({ ...batch, logits, vocab: VOCAB }), { backend, temperature: 1.5 });
          expectCloseNumber(actual.loss, expected.loss, 1e-12, 1e-3);
          expectClose(actual.scores, expected.scores, 1e-12);
          const metrics = (of: object) => Float64Array.from(Object.values(of));
          expectClose(metrics(actual.metrics), metrics(expected.metrics), 1e-6); // rows elsewhere in memory, other last bits
        }
      }),
      { numRuns: 40 },
    );
  });

  test('log-probs of the policy that sampled are its own: every ratio is 1', () => {
    const rollouts = { promptIds: [[3, 1], [2]], answers: [[[0, 4], [1]], [[2, 2, 2]]], rewards: [[1, 0], [1]] };
    const plain = fromRollouts(rollouts);
    const logits = model(plain, everyRow(...plain.shape));
    const { logProbs } = grpoSync(padded({ ...plain, logits }), { backend, logProbs: true });
    const of = (b: number, prompt: number, tokens: number) => {
      const first = b * plain.shape[1] + prompt - 1;
      return Array.from(logProbs!.subarray(first, first + tokens));
    };
    const batch = fromRollouts({ ...rollouts, logProbs: [[of(0, 2, 2), of(1, 2, 1)], [of(2, 1, 3)]] });
    const { metrics } = grpoSync(padded({ ...batch, logits }), { backend });
    expect(metrics.tokens).toBe(6);
    expect(metrics.ratioMean).toBeCloseTo(1, 12);
    expect(metrics.policyKl).toBeCloseTo(0, 12);
  });
});

const small = {
  promptIds: [[5, 1], [7]],
  answers: [[[2, 3], [4]], [[]]],
  logProbs: [[[-0.5, -1], [-2]], [[]]],
  rewards: [[1, 0], [0.5]],
};

describe('fromRollouts', () => {
  test('padded at the right, the row of a token is the one before it', () => {
    expect(fromRollouts(small, { padId: 9 })).toEqual({
      shape: [3, 4],
      inputIds: Int32Array.of(5, 1, 2, 3, 5, 1, 4, 9, 7, 9, 9, 9),
      attentionMask: Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0),
      targets: Int32Array.of(1, 2, 3, 9, 1, 4, 9, 9, 9, 9, 9, 9),
      mask: Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0),
      oldLogProbs: Float64Array.of(0, -0.5, -1, 0, 0, -2, 0, 0, 0, 0, 0, 0),
      rewards: Float64Array.of(1, 0, 0.5),
      cuGroups: Int32Array.of(0, 2, 3),
    });
  });

  test('padded at the left, every sequence ends in the last column', () => {
    const batch = fromRollouts(small, { padding: 'left', length: 5 });
    expect(batch.shape).toEqual([3, 5]);
    expect(batch.inputIds).toEqual(Int32Array.of(0, 5, 1, 2, 3, 0, 0, 5, 1, 4, 0, 0, 0, 0, 7));
    expect(batch.mask).toEqual(Uint8Array.of(0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0));
    expect(batch.targets).toEqual(Int32Array.of(0, 1, 2, 3, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0));
  });

  test('packed, no row scores the first token of the next sequence', () => {
    const batch = fromRollouts(small, { padding: 'none' });
    expect(batch).toMatchObject({
      cuSeqlens: Int32Array.of(0, 4, 7, 8),
      inputIds: Int32Array.of(5, 1, 2, 3, 5, 1, 4, 7),
      attentionMask: new Uint8Array(8).fill(1),
      targets: Int32Array.of(1, 2, 3, 0, 1, 4, 0, 0),
      mask: Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0),
    });
    expect(batch).not.toHaveProperty('shape');
  });

  test('tokens of a tool do not count, and have no log-prob', () => {
    const batch = fromRollouts({ ...small, answerMask: [[[1, 0], [1]], [[]]], logProbs: [[[-0.5, NaN], [-2]], [[]]] });
    expect(batch.mask).toEqual(Uint8Array.of(0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0));
    expect(batch.oldLogProbs).toEqual(Float64Array.of(0, -0.5, 0, 0, 0, -2, 0, 0, 0, 0, 0, 0));
  });

  test('typed arrays, ids of 64 bits too', () => {
    const typed = {
      promptIds: [BigInt64Array.of(5n, 1n), Int32Array.of(7)],
      answers: [[BigInt64Array.of(2n, 3n), Int32Array.of(4)], [new Int32Array(0)]],
      logProbs: [[Float32Array.of(-0.5, -1), Float64Array.of(-2)], [new Float32Array(0)]],
      rewards: [Float32Array.of(1, 0), Float64Array.of(0.5)],
    };
    expect(fromRollouts(typed)).toEqual(fromRollouts(small));
  });

  test('nothing, and prompts without answers', () => {
    const none = fromRollouts({ promptIds: [], answers: [], rewards: [] });
    expect(none).toMatchObject({ shape: [0, 0], cuGroups: Int32Array.of(0), inputIds: new Int32Array(0) });
    expect(conspoSync(padded({ ...none, logits: new Float32Array(0) })).loss).toBe(0);
    const empty = fromRollouts({ promptIds: [[1], [2]], answers: [[], [[3]]], rewards: [[], [1]] });
    expect(empty.cuGroups).toEqual(Int32Array.of(0, 0, 1));
    expect(fromRollouts({ promptIds: [], answers: [], rewards: [] }, { padding: 'none' }).cuSeqlens).toEqual(
      Int32Array.of(0),
    );
  });

  test('types: log-probs if they were given, a shape or offsets by the padding', () => {
    expectTypeOf(fromRollouts(small).oldLogProbs).toEqualTypeOf<Float64Array>();
    expectTypeOf(fromRollouts(small).shape).toEqualTypeOf<readonly [sequences: number, length: number]>();
    expectTypeOf(fromRollouts(small, { padId: 3 }).shape).toEqualTypeOf<readonly [sequences: number, length: number]>();
    expectTypeOf(fromRollouts(small, { padding: 'none' }).cuSeqlens).toEqualTypeOf<Int32Array>();
    expectTypeOf(fromRollouts(small as Rollouts).oldLogProbs).toEqualTypeOf<Float64Array | undefined>();
    const { logProbs: _none, ...onPolicy } = small;
    // @ts-expect-error there are no log-probs
    expect(fromRollouts(onPolicy).oldLogProbs).toBeUndefined();
    // @ts-expect-error packed sequences have no shape
    expect(fromRollouts(small, { padding: 'none' }).shape).toBeUndefined();
  });

  test.each<[change: object | undefined, options: object | undefined, code: string, message: string]>([
    [undefined, undefined, 'ERR_DTYPE', 'rollouts: expected an object, got undefined'],
    [{ logprobs: [] }, {}, 'ERR_OPTION', 'logprobs: no such option of fromRollouts; did you mean logProbs?'],
    [{ promptIds: undefined }, {}, 'ERR_DTYPE', 'promptIds: expected an array, got undefined'],
    [{ promptIds: [[5, 1], []] }, {}, 'ERR_SHAPE', 'promptIds[1]: expected at least one id, got none'],
    [
      { promptIds: ['5 1', [7]] },
      {},
      'ERR_DTYPE',
      'promptIds[0]: expected Int32Array, BigInt64Array or an array of ids',
    ],
    [{ promptIds: [[5, -1], [7]] }, {}, 'ERR_RANGE', 'promptIds[0]: expected ids in [0, 2^31), got -1 at index 1'],
    [{ promptIds: [BigInt64Array.of(2n ** 31n), [7]] }, {}, 'ERR_RANGE', 'got 2147483648n at index 0'],
    [{ answers: [[]] }, {}, 'ERR_SHAPE', 'answers: expected length 2, one for each prompt, got length 1'],
    [
      { answers: [[2, 3], [[]]] },
      {},
      'ERR_DTYPE',
      'answers[0][0]: expected Int32Array, BigInt64Array or an array of ids, got 2',
    ],
    [
      { answers: [[[2, 3], [1.5]], [[]]] },
      {},
      'ERR_RANGE',
      'answers[0][1]: expected ids in [0, 2^31), got 1.5 at index 0',
    ],
    [{ rewards: [[1], [0.5]] }, {}, 'ERR_SHAPE', 'rewards[0]: expected length 2, one for each answer, got length 1'],
    [{ rewards: [[1, NaN], [0.5]] }, {}, 'ERR_NONFINITE', 'rewards[0]: expected finite values, got NaN at index 1'],
    [{ rewards: [[1, true], [0.5]] }, {}, 'ERR_DTYPE', 'rewards[0]: expected numbers, got true at index 1'],
    [
      { rewards: Float32Array.of(1, 0, 0.5) },
      {},
      'ERR_DTYPE',
      'rewards: expected an array, got Float32Array of length 3',
    ],
    [
      { logProbs: [[[-0.5], [-2]], [[]]] },
      {},
      'ERR_SHAPE',
      'logProbs[0][0]: expected length 2, one for each token of the answer, got length 1',
    ],
    [
      { logProbs: [[[-0.5, null], [-2]], [[]]] },
      {},
      'ERR_DTYPE',
      'logProbs[0][0]: expected numbers, got null at index 1',
    ],
    [{ answerMask: [[[1, 1]], [[]]] }, {}, 'ERR_SHAPE', 'answerMask[0]: expected length 2, one for each answer'],
    [{}, { padding: 'both' }, 'ERR_RANGE', "padding: expected 'right' or 'left' or 'none', got \"both\""],
    [{}, { length: 3 }, 'ERR_SHAPE', 'length: expected at least 4, those of answers[0][0] with its prompt, got 3'],
    [{}, { length: 2 ** 30 }, 'ERR_RANGE', 'answers: expected fewer than 2^31 tokens with prompts and padding'],
    [{}, { length: 4, padding: 'none' }, 'ERR_RANGE', "length: expected none with padding 'none', got 4"],
    [{}, { padId: -1 }, 'ERR_RANGE', 'padId: expected a whole number at least 0'],
    [{}, { padid: 1 }, 'ERR_OPTION', 'padid: no such option of fromRollouts; did you mean padId?'],
  ])('bad input %#', (change, options, code, message) => {
    const rollouts = change && { ...small, ...change };
    expect(() => fromRollouts(rollouts as never, options as never)).toThrow(rlvrError(code, message));
  });
});
