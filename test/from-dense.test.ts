import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as groups from '../lib/groups.js';
import { fromDense } from '../lib/groups.js';
import { conspoSync } from '../lib/index.js';
import { atOnce } from '../lib/slices.js';
import { describeBackends } from './support/backends.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { permutation, reordered, rowOf, segmentOf } from './support/packed.js';
import { randomBatch } from './support/random.js';

describeBackends('fromDense', (backend) => {
  test('sequences in any order: the loss of the grouped batch, the gradient where its tokens are', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const [vocab, groups] = [4, 4]; // rows that move stay aligned: on a GPU that is the order of their sums
        const batch = randomBatch(seed, { vocab, groups });
        const order = permutation(batch.rewards.length, seed);
        const { moved, tokens } = reordered(batch, order, vocab);
        const ids = order.map((i) => 100 - segmentOf(batch.cuGroups, i));

        const present = Math.max(1, new Set(ids).size); // dense ids know nothing of empty groups
        const expected = conspoSync(batch, { backend, normalizer: present });
        const actual = conspoSync({ ...moved, ...fromDense(ids) }, { backend });
        expectCloseNumber(actual.loss, expected.loss, 1e-12, 1e-3);
        const losses = Array.from(new Set(ids), (id) => expected.groupLosses[100 - id]);
        expectClose(actual.groupLosses, losses, 1e-12);
        const gradient = tokens.flatMap((t) => Array.from(rowOf(expected.gradLogits, t, vocab)));
        expectClose(actual.gradLogits, gradient, 1e-7);
      }),
      { numRuns: 60 },
    );
  });
});

describe('fromDense', () => {
  test('groups are adjacent, in order of appearance, and keep the order of their sequences', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', 'c', 'dd', '')), (ids) => {
        const { cuGroups, groupOrder } = fromDense(ids);
        const order = groupOrder ?? Int32Array.from(ids, (_, i) => i);
        const groups = Array.from(cuGroups.slice(1), (end, g) => Array.from(order.slice(cuGroups[g], end)));
        const distinct = [...new Set(ids)];
        expect(groups).toEqual(distinct.map((id) => ids.flatMap((other, i) => (other === id ? [i] : []))));
        expect(groupOrder !== undefined).toBe(order.some((i, k) => i !== k));
      }),
    );
  });

  test('strings, numbers and an Int32Array give the same groups', () => {
    const expected = { cuGroups: Int32Array.of(0, 2, 4, 5), groupOrder: Int32Array.of(0, 2, 1, 4, 3) };
    expect(fromDense(['q', 'p', 'q', 'r', 'p'])).toEqual(expected);
    expect(fromDense([7, -1.5, 7, 0, -1.5])).toEqual(expected);
    expect(fromDense(Int32Array.of(5, 4, 5, 9, 4))).toEqual(expected);
  });

  test('adjacent groups and no sequences have no order', () => {
    expect(fromDense([3, 3, 1, 2, 2])).toStrictEqual({ cuGroups: Int32Array.of(0, 2, 3, 5), groupOrder: undefined });
    expect(fromDense([])).toStrictEqual({ cuGroups: Int32Array.of(0), groupOrder: undefined });
  });

  test.each<[ids: unknown, code: string, message: string]>([
    [undefined, 'ERR_DTYPE', 'groupIds: expected Int32Array, an array of numbers or one of strings, got undefined'],
    [{ length: 2 }, 'ERR_DTYPE', 'groupIds: expected Int32Array, an array of numbers or one of strings, got an object'],
    [new Float32Array(2), 'ERR_DTYPE', 'groupIds: expected Int32Array, got Float32Array of length 2'],
    [[1, '1'], 'ERR_DTYPE', 'groupIds: expected numbers throughout, got "1" at index 1'],
    [['1', 1], 'ERR_DTYPE', 'groupIds: expected strings throughout, got 1 at index 1'],
    [[1, undefined, 1], 'ERR_DTYPE', 'groupIds: expected numbers throughout, got undefined at index 1'],
    [[null], 'ERR_DTYPE', 'groupIds: expected numbers throughout, got null at index 0'],
    [[1n], 'ERR_DTYPE', 'groupIds: expected numbers throughout, got 1n at index 0'],
    [[0, NaN], 'ERR_NONFINITE', 'groupIds: expected finite numbers, got NaN at index 1'],
  ])('bad ids %#: %o', (ids, code, message) => {
    expect(() => fromDense(ids as never)).toThrow(rlvrError(code, message));
  });
});

describe('a group order', () => {
  const checkGroupOrder = (value: unknown, sequences: number) =>
    atOnce(groups.checkGroupOrder('groupOrder', value, sequences));
  const gather = (values: Float64Array, order?: Int32Array) => atOnce(groups.gather(values, order));
  const scatter = (values: Float64Array, order?: Int32Array) => atOnce(groups.scatter(values, order));

  test('gather and scatter undo each other', () => {
    fc.assert(
      fc.property(fc.nat(20), fc.integer(), (length, seed) => {
        const order = checkGroupOrder(Int32Array.from(permutation(length, seed)), length);
        const values = Float64Array.from(order, (_, i) => i * 10);
        expect(Array.from(gather(values, order))).toEqual(Array.from(order, (i) => values[i]));
        expect(scatter(gather(values, order), order)).toEqual(values);
        expect(gather(scatter(values, order), order)).toEqual(values);
      }),
    );
  });

  test('without one, values are themselves', () => {
    const values = Float64Array.of(1, 2);
    expect(gather(values)).toBe(values);
    expect(scatter(values)).toBe(values);
  });

  test('is copied', () => {
    const order = Int32Array.of(1, 0);
    const checked = checkGroupOrder(order, 2);
    order.fill(7);
    expect(checked).toEqual(Int32Array.of(1, 0));
  });

  test.each<[order: unknown, code: string, message: string]>([
    [undefined, 'ERR_DTYPE', 'groupOrder: expected Int32Array, got undefined'],
    [[0, 1, 2], 'ERR_DTYPE', 'groupOrder: expected Int32Array, got an Array of length 3'],
    [Int32Array.of(0, 1), 'ERR_SHAPE', 'groupOrder: expected length 3 (N, one index per sequence), got length 2'],
    [Int32Array.of(0, 3, 1), 'ERR_RANGE', 'groupOrder: expected sequence indices in [0, 3), got 3 at index 1'],
    [Int32Array.of(0, 1, -1), 'ERR_RANGE', 'groupOrder: expected sequence indices in [0, 3), got -1 at index 2'],
    [Int32Array.of(2, 1, 2), 'ERR_RANGE', 'groupOrder: expected each sequence once, got 2 again at index 2'],
  ])('bad orders %#: %o', (order, code, message) => {
    expect(() => checkGroupOrder(order, 3)).toThrow(rlvrError(code, message));
  });
});
