import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import {
  conspoSync,
  type FloatArray,
  fromDense,
  grpoSync,
  type HostTensor,
  type Logits,
  type PaddedBatch,
  padded,
  RlvrError,
} from '../lib/index.js';
import { numberToBf16 } from '../lib/reference/float16.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { rowOf } from './support/packed.js';
import { randomBatch } from './support/random.js';

type PackedBatch = ReturnType<typeof randomBatch>;

const sequencesOf = ({ cuSeqlens }: PackedBatch) => Array.from(cuSeqlens.slice(1), (end, i) => [cuSeqlens[i], end]);

/**
 * A packed batch in a trainer's layout: each sequence at the left, at the right or somewhere inside its row of L. Where
 * there is padding, every array holds what no loss could read unnoticed. `places[t]` is where token t went.
 */
function padOf(batch: PackedBatch, vocab: number, seed: number) {
  const random = new Random(seed);
  const sequences = sequencesOf(batch);
  const length = Math.max(0, ...sequences.map(([begin, end]) => end - begin)) + Math.floor(random.uniform() * 3);
  const places = sequences.flatMap(([begin, end], b) => {
    const room = length - (end - begin);
    const left = [0, room, Math.floor(random.uniform() * (room + 1))][Math.floor(random.uniform() * 3)];
    return Array.from({ length: end - begin }, (_, t) => b * length + left + t);
  });
  const tokens = sequences.length * length;
  const logits = new Float32Array(tokens * vocab).fill(NaN);
  for (const [t, place] of places.entries()) logits.set(rowOf(batch.logits, t, vocab), place * vocab);
  const spread = (values: ArrayLike<number>, fill: number) => {
    const out = new Float64Array(tokens).fill(fill);
    for (const [t, place] of places.entries()) out[place] = values[t];
    return out;
  };
  const arrays = {
    shape: [sequences.length, length] as const,
    logits,
    targets: Int32Array.from(spread(batch.targets, -100)),
    mask: Uint8Array.from(spread(batch.mask, 0)),
    oldLogProbs: spread(batch.oldLogProbs, NaN),
    refLogProbs: spread(batch.refLogProbs, NaN),
    rewards: batch.rewards,
    cuGroups: batch.cuGroups,
  };
  return { batch: arrays, places };
}

/** The gradient [B * L, V] is that of the packed batch in the places of its tokens, and 0 elsewhere. */
function expectPlaced(actual: Float32Array, packed: Float32Array, places: number[], vocab: number): void {
  const expected = new Float32Array(actual.length);
  for (const [t, place] of places.entries()) expected.set(rowOf(packed, t, vocab), place * vocab);
  expectClose(actual, expected, 1e-7);
}

describeBackends('padded', (backend) => {
  test('conspo and grpo of a padded batch are those of the packed one', () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(1, 3, 40), fc.nat(5), (seed, vocab, groups) => {
        const packed = randomBatch(seed, { vocab, groups });
        const { batch, places } = padOf(packed, vocab, seed);
        const losses = [
          [conspoSync(packed, { backend }), conspoSync(padded(batch), { backend })],
          [grpoSync(packed, { backend, klCoef: 0.1 }), grpoSync(padded(batch), { backend, klCoef: 0.1 })],
        ];
        for (const [expected, actual] of losses) {
          expectCloseNumber(actual.loss, expected.loss, 1e-12, 1e-3);
          expectClose(actual.scores, expected.scores, 1e-12);
          expectPlaced(actual.gradLogits, expected.gradLogits, places, vocab);
          expect(actual.metrics.tokens).toBe(expected.metrics.tokens);
          expect(actual.metrics.contrastiveGroups).toBe(expected.metrics.contrastiveGroups);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('from log-probs, the gradient is [B * L] and 0 at padding', () => {
    const packed = randomBatch(3, { vocab: 2, groups: 3 });
    const { batch, places } = padOf(packed, 2, 3);
    const { shape, mask, rewards, cuGroups, oldLogProbs } = batch;
    const { logits: _logits, targets: _targets, ...rest } = packed;
    const expected = conspoSync({ ...rest, logProbs: packed.oldLogProbs }, { backend });
    const actual = conspoSync(padded({ shape, mask, rewards, cuGroups, logProbs: oldLogProbs }), { backend });
    expectCloseNumber(actual.loss, expected.loss, 1e-12);
    const placed = new Float64Array(mask.length);
    for (const [t, place] of places.entries()) placed[place] = expected.gradLogProbs[t];
    expectClose(actual.gradLogProbs, placed, 1e-12);
  });

  test.each(['[B * L, V]', '[B, L, V]'])('16-bit tensors of shape %s with padded rows', (form) => {
    const [sequences, length, vocab, rowStride] = [2, 3, 5, 8];
    const random = new Random(1);
    const data = Uint16Array.from({ length: sequences * length * rowStride }, () => numberToBf16(random.normal()));
    const rest = { targets: Int32Array.of(0, 1, 2, 3, 4, 0), mask: Uint8Array.of(1, 1, 0, 1, 1, 1) };
    const groups = { rewards: Float32Array.of(1, 0), cuGroups: Int32Array.of(0, 2) };
    const flat: HostTensor = { data, dtype: 'bf16', shape: [sequences * length, vocab], rowStride };
    const logits = form === '[B, L, V]' ? ({ ...flat, shape: [sequences, length, vocab] } as const) : flat;
    const packed = { logits: flat, cuSeqlens: Int32Array.of(0, 3, 6), ...rest, ...groups };
    const expected = conspoSync(packed, { backend });
    const actual = conspoSync(padded({ shape: [sequences, length], logits, ...rest, ...groups }), { backend });
    expect(actual).toEqual(expected);
    expect(Math.hypot(...expected.gradLogits.data)).toBeGreaterThan(0);
  });

  test('spread into a padded batch', () => {
    const { cuGroups: _cuGroups, ...batch } = small;
    const expected = conspoSync(padded(small), { backend });
    expect(conspoSync(padded({ ...batch, ...fromDense(['x', 'x']) }), { backend })).toEqual(expected);
  });

  test('in place, the gradient is in the logits of the trainer', () => {
    const { batch } = padOf(randomBatch(5, { vocab: 4, groups: 3 }), 4, 5);
    const expected = conspoSync(padded(batch), { backend }).gradLogits;
    expect(conspoSync(padded(batch), { backend, gradient: 'in-place' }).gradLogits).toBe(batch.logits);
    expect(batch.logits).toEqual(expected);
  });
});

const logits = Float32Array.from({ length: 12 }, (_, i) => i / 8);
const small = {
  shape: [2, 3] as const,
  logits,
  targets: Int32Array.of(0, 1, 0, 1, 0, 1),
  mask: Uint8Array.of(1, 1, 0, 1, 0, 0),
  rewards: Float32Array.of(1, 0),
  cuGroups: Int32Array.of(0, 2),
};

describe('padded', () => {
  test('keeps every array, and adds cuSeqlens', () => {
    const { shape: _shape, ...rest } = small;
    const batch = { ...small, advantages: Float32Array.of(1, -1), promptIds: ['a', 'b'] };
    const packed = padded(batch);
    expect(packed).toEqual({
      ...rest,
      advantages: batch.advantages,
      promptIds: ['a', 'b'],
      cuSeqlens: Int32Array.of(0, 3, 6),
    });
    for (const key of ['logits', 'targets', 'mask', 'rewards', 'cuGroups', 'advantages', 'promptIds'] as const) {
      expect(packed[key]).toBe(batch[key]);
    }
  });

  test('a tensor [B * L, V] is passed on as it is', () => {
    const tensor: HostTensor = { data: logits, shape: [6, 2] };
    expect(padded({ ...small, logits: tensor }).logits).toBe(tensor);
  });

  test('a tensor [B, L, V] is the same memory as [B * L, V]', () => {
    class Tensor {
      readonly shape = [2, 3, 2] as const;
      readonly name = 'policy';
      get data() {
        return logits;
      }
      get rowStride() {
        return 2;
      }
    }
    const tensor = new Tensor();
    const packed = padded({ ...small, logits: tensor }).logits;
    expect(packed).toEqual({ data: logits, shape: [6, 2], rowStride: 2, name: 'policy' });
    expect(packed.data).toBe(logits);
    expect(tensor.shape).toEqual([2, 3, 2]);
  });

  test.each([
    ['no sequence', [0, 3], [0]],
    ['no token', [2, 0], [0, 0, 0]],
  ])('%s', (_name, [sequences, length], cuSeqlens) => {
    const empty = { logits: new Float32Array(0), targets: new Int32Array(0), mask: new Uint8Array(0) };
    const groups = { rewards: new Float32Array(sequences), cuGroups: Int32Array.of(0, sequences) };
    const packed = padded({ shape: [sequences, length], ...empty, ...groups });
    expect(packed.cuSeqlens).toEqual(Int32Array.from(cuSeqlens));
    expect(conspoSync(packed).loss).toBe(0);
  });

  test('vocab is checked and left out', () => {
    const { shape: _shape, ...rest } = small;
    expect(padded({ ...small, vocab: 2 })).toEqual({ ...rest, cuSeqlens: Int32Array.of(0, 3, 6) });
    expect(padded({ ...small, vocab: undefined })).not.toHaveProperty('vocab');
    expect(padded({ ...small, logits: { data: logits, shape: [2, 3, 2] }, vocab: 2 }).logits.shape).toEqual([6, 2]);
    const none = { logits: new Float32Array(0), targets: new Int32Array(0), mask: new Uint8Array(0) };
    expect(padded({ ...none, shape: [0, 3], vocab: 7 }).logits).toBe(none.logits);
    const { logits: _logits, targets: _targets, ...given } = small;
    const fromLogProbs = { ...given, logProbs: new Float64Array(6), vocab: 2 };
    // @ts-expect-error log-probs have no vocabulary
    expect(() => padded(fromLogProbs)).toThrow(rlvrError('ERR_RANGE', 'vocab: expected none but with logits, got 2'));
  });

  test('logits of fewer rows pass for rows of another length unless vocab is given', () => {
    const short = { ...small, logits: new Float32Array(2 * 2 * 6) }; // [2, 2, 6]: the last position was cut off
    expect(padded(short).logits).toBe(short.logits);
    expect(() => padded({ ...short, vocab: 6 })).toThrow(
      rlvrError('ERR_SHAPE', 'logits: expected length 36 (B * L * vocab), got length 24, 4 rows'),
    );
  });

  test('results are typed by the padded batch', () => {
    const fromArray = conspoSync(padded(small));
    expectTypeOf(fromArray.gradLogits).toEqualTypeOf<Float32Array<ArrayBuffer>>();
    const fromTensor = conspoSync(padded({ ...small, logits: { data: logits, shape: [2, 3, 2] } }));
    expectTypeOf(fromTensor.gradLogits.data).toEqualTypeOf<Float32Array<ArrayBuffer>>();
    expectTypeOf(fromTensor.gradLogits.shape).toEqualTypeOf<HostTensor['shape']>();
    expect(fromTensor.gradLogits).toMatchObject({ data: fromArray.gradLogits, shape: [6, 2] });
    const { logits: _logits, targets: _targets, ...rest } = small;
    const fromLogProbs = conspoSync(padded({ ...rest, logProbs: Float64Array.of(-1, -2, -3, -4, -5, -6) }));
    expectTypeOf(fromLogProbs.gradLogProbs).toEqualTypeOf<FloatArray>();
    const either = small as PaddedBatch & Pick<typeof small, 'rewards' | 'cuGroups'>;
    expectTypeOf(conspoSync(padded(either)).gradLogits).toEqualTypeOf<Logits | undefined>();
    // @ts-expect-error log-probs have no gradLogits
    expect(fromLogProbs.gradLogits).toBeUndefined();
    // @ts-expect-error the mask is required
    expect(() => padded({ ...small, mask: undefined })).toThrow(RlvrError);
  });

  test('hidden states of shape [B, L, d]', () => {
    const { logits: _logits, ...rest } = small;
    const weight = Float32Array.of(1, 0, 0, 1); // the logits are the hidden states
    const packed = padded({ ...rest, hidden: { data: logits, shape: [2, 3, 2] }, weight });
    expectTypeOf(packed.hidden.shape).toEqualTypeOf<HostTensor['shape']>();
    expect(packed.hidden).toEqual({ data: logits, shape: [6, 2] });
    expect(packed.hidden.data).toBe(logits);
    const fromHidden = conspoSync(packed);
    const fromLogits = conspoSync(padded(small));
    expect(fromHidden.loss).toBeCloseTo(fromLogits.loss, 6);
    expectClose(fromHidden.gradHidden.data, fromLogits.gradLogits, 1e-5, 'gradHidden');
    expect(padded({ ...rest, hidden: logits, weight }).hidden).toBe(logits);
  });

  const oneSource = 'one of logits (with targets), hidden (with weight and targets) and logProbs';
  const resizable = new Uint8Array(
    new (ArrayBuffer as new (n: number, o: object) => ArrayBuffer)(6, { maxByteLength: 9 }),
  );
  test.each<[change: object | null | undefined, code: string, message: string]>([
    [undefined, 'ERR_DTYPE', 'batch: expected an object, got undefined'],
    [null, 'ERR_DTYPE', 'batch: expected an object, got null'],
    [{ shape: undefined }, 'ERR_SHAPE', 'shape: expected [B, L], got undefined'],
    [{ shape: 6 }, 'ERR_SHAPE', 'shape: expected [B, L], got 6'],
    [{ shape: [2, 3, 2] }, 'ERR_SHAPE', 'shape: expected [B, L], got [2, 3, 2]'],
    [{ shape: [2.5, 3] }, 'ERR_RANGE', 'shape[0]: expected a whole number'],
    [{ shape: [2, -3] }, 'ERR_RANGE', 'shape[1]: expected a whole number'],
    [{ shape: [2, NaN] }, 'ERR_RANGE', 'shape[1]: expected a whole number'],
    [{ shape: [2, '3'] }, 'ERR_RANGE', 'shape[1]: expected a number, got "3"'],
    [{ shape: [2 ** 16, 2 ** 15] }, 'ERR_RANGE', 'shape: expected B * L below 2^31, got [65536, 32768], 2147483648'],
    [{ shape: [2 ** 40, 0] }, 'ERR_RANGE', 'shape[0]: expected a whole number'],
    [{ mask: undefined }, 'ERR_DTYPE', 'mask: expected Uint8Array, got undefined'],
    [{ mask: [[true, true, false]] }, 'ERR_DTYPE', 'mask: expected Uint8Array, got an Array of length 1'],
    [{ mask: new Uint8Array(5) }, 'ERR_SHAPE', 'mask: expected length 6 (B * L, one flag per token), got length 5'],
    [{ mask: resizable }, 'ERR_DTYPE', 'mask: expected an array on a buffer of fixed length'],
    [{ targets: undefined }, 'ERR_DTYPE', 'targets: expected Int32Array or BigInt64Array, got undefined'],
    [{ targets: new Int32Array(7) }, 'ERR_SHAPE', 'targets: expected length 6 (B * L, one id per token), got length 7'],
    [{ logits: undefined }, 'ERR_DTYPE', `batch: expected ${oneSource}, got none of them`],
    [{ logProbs: new Float64Array(6) }, 'ERR_DTYPE', `batch: expected ${oneSource}, got logits and logProbs`],
    [{ vocab: 5 }, 'ERR_SHAPE', 'logits: expected length 30 (B * L * vocab), got length 12'],
    [{ vocab: 0 }, 'ERR_RANGE', 'vocab: expected a whole number at least 1'],
    [{ vocab: '2' }, 'ERR_RANGE', 'vocab: expected a number, got "2"'],
    [
      { logits: { data: logits, shape: [2, 3, 2] }, vocab: 3 },
      'ERR_SHAPE',
      'logits.shape: expected rows of 3 (vocab), got 2',
    ],
    [{ hidden: logits }, 'ERR_DTYPE', `batch: expected ${oneSource}, got logits and hidden`],
    [
      { logits: undefined, hidden: { data: logits, shape: [3, 2, 2] } },
      'ERR_SHAPE',
      'hidden.shape: expected [6, d] or [2, 3, d], got [3, 2, 2]',
    ],
    [{ logits: undefined, logProbs: new Float64Array(5) }, 'ERR_SHAPE', 'logProbs: expected length 6 (B * L'],
    [
      { logits: undefined, logProbs: [1] },
      'ERR_DTYPE',
      'logProbs: expected Float32Array or Float64Array, got an Array',
    ],
    [{ cuSeqlens: Int32Array.of(0, 6) }, 'ERR_RANGE', 'cuSeqlens: expected none'],
    [{ logits: new Float32Array(13) }, 'ERR_SHAPE', 'logits: expected a multiple of 6 elements (T * V), got 13'],
    [{ logits: new Float64Array(12) }, 'ERR_DTYPE', 'logits.data: expected Float32Array or Uint16Array'],
    [{ logits: [1, 2] }, 'ERR_DTYPE', 'logits: expected an object, got an Array of length 2'],
    [{ logits: 'logits' }, 'ERR_DTYPE', 'logits: expected an object, got "logits"'],
    [{ logits: { data: logits } }, 'ERR_SHAPE', 'logits.shape: expected [6, V] or [2, 3, V], got undefined'],
    [
      { logits: { data: logits, shape: [3, 4] } },
      'ERR_SHAPE',
      'logits.shape: expected [6, V] or [2, 3, V], got [3, 4]',
    ],
    [
      { logits: { data: logits, shape: [3, 2, 2] } },
      'ERR_SHAPE',
      'logits.shape: expected [6, V] or [2, 3, V], got [3, 2, 2]',
    ],
    [
      { logits: { data: logits, shape: [2, 6, 1] } },
      'ERR_SHAPE',
      'logits.shape: expected [6, V] or [2, 3, V], got [2, 6, 1]',
    ],
    [{ logits: { data: logits, shape: [2, 3, 3] } }, 'ERR_SHAPE', 'logits.data: expected at least 18 elements, got 12'],
    [
      { logits: { data: logits, shape: [2, 3, 2], dtype: 'bf16' } },
      'ERR_DTYPE',
      'logits.data: expected data of dtype bf16',
    ],
    [{ logits: { data: logits, shape: [2, 3, 2], rowStride: 1 } }, 'ERR_RANGE', 'logits.rowStride: expected'],
  ])('bad arguments %#: %o', (change, code, message) => {
    const batch = change && { ...small, ...change };
    expect(() => padded(batch as never)).toThrow(rlvrError(code, message));
  });
});
