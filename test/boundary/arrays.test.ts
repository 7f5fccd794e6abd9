// The kinds of memory that JavaScript hands over: shared, resizable, detached, views at any offset, rows with padding.
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import {
  conspo,
  conspoSync,
  forward,
  forwardSync,
  groupInfoNCESync,
  grpo,
  grpoSync,
  type HostTensor,
  ratioScoresSync,
  sequenceLogProbsSync,
  tokenLogProbs,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../../lib/index.js';
import { numberToBf16 } from '../../lib/reference/float16.js';
import { describeBackends } from '../support/backends.js';
import { rlvrError } from '../support/errors.js';
import { randomBatch } from '../support/random.js';
import { FORMATS } from '../support/tensors.js';

type AnyArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

/** The same elements in other memory. */
function moved<A extends AnyArray>(array: A, allocate: (bytes: number) => ArrayBufferLike, byteOffset = 0): A {
  const View = array.constructor as new (buffer: ArrayBufferLike, offset: number, length: number) => A;
  const copy = new View(allocate(byteOffset + array.byteLength + 16), byteOffset, array.length);
  copy.set(array);
  return copy;
}

function eachArray<B extends Record<string, unknown>>(batch: B, change: (array: AnyArray) => AnyArray): B {
  const entries = Object.entries(batch).map(([name, value]) => [
    name,
    ArrayBuffer.isView(value) ? change(value as AnyArray) : value,
  ]);
  return Object.fromEntries(entries) as B;
}

const resizable = (bytes: number) =>
  new (ArrayBuffer as new (length: number, options: object) => ArrayBuffer)(bytes, { maxByteLength: bytes + 64 });
const growable = (bytes: number) =>
  new (SharedArrayBuffer as new (length: number, options: object) => SharedArrayBuffer)(bytes, {
    maxByteLength: bytes + 64,
  });

function detach(array: AnyArray): void {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
}

const VOCAB = 37;
const batch = randomBatch(23, { vocab: VOCAB, groups: 4 });
const tokens = batch.targets.length;
const { logits: _, targets: __, ...withoutLogits } = batch;
const fromLogProbs = { ...withoutLogits, logProbs: Float64Array.from(batch.oldLogProbs, (x) => x - 0.1) };

describeBackends('arrays', (backend) => {
  const options = { backend, entropy: true, logProbs: true };
  const grpoOptions = { ...options, klCoef: 0.1 };

  test.each([
    ['SharedArrayBuffer', (bytes: number) => new SharedArrayBuffer(bytes), 0],
    ['a view at an offset', (bytes: number) => new ArrayBuffer(bytes), 8],
    ['a shared view at an offset', (bytes: number) => new SharedArrayBuffer(bytes), 8],
    ['a Buffer pool', (bytes: number) => Buffer.alloc(bytes).buffer, 0],
  ])('%s: as any other', async (_name, allocate, offset) => {
    const other = eachArray(batch, (array) => moved(array, allocate, offset));
    expect(await grpo(other, grpoOptions)).toEqual(grpoSync(batch, grpoOptions));
    expect(await conspo(other, options)).toEqual(conspoSync(batch, options));
    const inPlace = await conspo(other, { ...options, gradient: 'in-place' });
    expect(inPlace.gradLogits).toBe(other.logits);
    expect(Array.from(other.logits)).toEqual(Array.from(conspoSync(batch, options).gradLogits));
    const logProbs = eachArray(fromLogProbs, (array) => moved(array, allocate, offset));
    expect(await grpo(logProbs, grpoOptions)).toEqual(grpoSync(fromLogProbs, grpoOptions));
  });

  test('views at offsets that no vector load would like', async () => {
    for (const offset of [4, 12, 20, 28]) {
      const logits = moved(batch.logits, (bytes) => new ArrayBuffer(bytes), offset);
      const before = new Uint8Array(logits.buffer).slice();
      const result = await conspo({ ...batch, logits }, { backend, gradient: 'in-place' });
      const expected = conspoSync(batch, { backend }).gradLogits;
      expect(Buffer.from(result.gradLogits.buffer, offset, logits.byteLength)).toEqual(Buffer.from(expected.buffer));
      const after = new Uint8Array(logits.buffer);
      expect(after.subarray(0, offset)).toEqual(before.subarray(0, offset));
      expect(after.subarray(offset + logits.byteLength)).toEqual(before.subarray(offset + logits.byteLength));
    }
    const plain: HostTensor = {
      data: Uint16Array.from(batch.logits, numberToBf16),
      shape: [tokens, VOCAB],
      dtype: 'bf16',
    };
    for (const offset of [2, 6, 10, 14]) {
      const logits = { ...plain, data: moved(plain.data as Uint16Array, (bytes) => new ArrayBuffer(bytes), offset) };
      const mask = moved(batch.mask, (bytes) => new ArrayBuffer(bytes), offset + 1);
      const result = await grpo({ ...batch, logits, mask }, grpoOptions);
      expect(result).toEqual(grpoSync({ ...batch, logits: plain }, grpoOptions));
      expect(conspoSync({ ...batch, logits }, { backend, gradient: 'in-place' }).gradLogits).toBe(logits);
      expect(Array.from(logits.data)).toEqual(
        Array.from(conspoSync({ ...batch, logits: plain }, { backend }).gradLogits.data),
      );
      expect(new Uint8Array(logits.data.buffer, 0, offset).every((byte) => byte === 0)).toBe(true);
      expect(new Uint8Array(logits.data.buffer, offset + logits.data.byteLength).every((byte) => byte === 0)).toBe(
        true,
      );
    }
  });

  test.each(['f32', 'bf16'] as const)('%s rows with padding: it is neither read nor written', async (dtype) => {
    const stride = VOCAB + 11;
    const View = dtype === 'f32' ? Float32Array : Uint16Array;
    const filler = dtype === 'f32' ? 12345 : 0x7fff;
    const data = new View(batch.logits.length);
    data.set(Array.from(batch.logits, FORMATS[dtype].toBits));
    const dense = { data, shape: [tokens, VOCAB] as const, dtype };
    const blank = () => new View((tokens - 1) * stride + VOCAB + 5).fill(filler);
    const padded = { ...dense, data: blank(), rowStride: stride };
    for (let t = 0; t < tokens; t++) padded.data.set(dense.data.subarray(t * VOCAB, (t + 1) * VOCAB), t * stride);
    const expected = await conspo({ ...batch, logits: dense }, options);
    const rowsOf = (data: ArrayLike<number>) =>
      Array.from({ length: tokens * VOCAB }, (_x, i) => data[Math.floor(i / VOCAB) * stride + (i % VOCAB)]);
    const expectPadding = (data: ArrayLike<number>) => {
      const padding = Array.from(data).filter((_x, i) => i % stride >= VOCAB || i >= (tokens - 1) * stride + VOCAB);
      expect(padding).toEqual(new Array(padding.length).fill(filler));
    };

    const fresh = await conspo({ ...batch, logits: padded }, options);
    expect(fresh).toEqual(expected); // a new gradient is dense
    const out = { ...padded, data: blank() };
    await conspo({ ...batch, logits: dense }, { ...options, gradient: { out } });
    expect(rowsOf(out.data)).toEqual(Array.from(expected.gradLogits.data));
    expectPadding(out.data);
    await conspo({ ...batch, logits: padded }, { ...options, gradient: 'in-place' });
    expect(rowsOf(padded.data)).toEqual(Array.from(expected.gradLogits.data));
    expectPadding(padded.data);
  });

  test.each([
    ['resizable', resizable],
    ['growable shared', growable],
  ])('%s memory is refused by name', (_name, allocate) => {
    for (const name of Object.keys(batch) as (keyof typeof batch)[]) {
      const odd = { ...batch, [name]: moved(batch[name], allocate) };
      const refusal = rlvrError('ERR_DTYPE', new RegExp(`^${name}.*: expected .*, got .*resizable`));
      expect(() => grpoSync(odd, grpoOptions), name).toThrow(refusal);
    }
    const out = moved(batch.logits, allocate);
    const refusal = rlvrError('ERR_DTYPE', /^gradient\.out.*resizable/);
    expect(() => conspoSync(batch, { backend, gradient: { out } })).toThrow(refusal);
    const data = moved(Uint16Array.from(batch.logits, numberToBf16), allocate);
    const logits: HostTensor = { data, shape: [tokens, VOCAB], dtype: 'bf16' };
    expect(() => tokenLogProbsSync({ ...batch, logits }, { backend })).toThrow(/^logits\.data: .*resizable/);
  });

  describe('detached arrays', () => {
    test.each(Object.keys(batch))('%s', (name) => {
      const odd = eachArray(batch, (array) => array.slice());
      detach(odd[name as keyof typeof batch]);
      expect(() => grpoSync(odd, grpoOptions)).toThrow(
        expect.objectContaining({
          name: 'RlvrError',
          message: expect.stringMatching(new RegExp(`^${name}.*: expected `)),
        }),
      );
    });

    test('that define the length of all others', () => {
      const gone = <A extends AnyArray>(array: A) => {
        detach(array);
        return array;
      };
      const offsets = Int32Array.of(0, 0);
      const calls: [string, () => unknown][] = [
        [
          'logits',
          () => tokenLogProbsSync({ logits: gone(new Float32Array(8)), targets: new Int32Array(0) }, { backend }),
        ],
        [
          'targets',
          () => tokenLogProbsSync({ logits: new Float32Array(0), targets: gone(new Int32Array(2)) }, { backend }),
        ],
        [
          'logProbs',
          () => sequenceLogProbsSync({ logProbs: gone(new Float64Array(2)), cuSeqlens: offsets }, { backend }),
        ],
        ['logProbs', () => ratioScoresSync({ logProbs: gone(new Float64Array(2)), cuSeqlens: offsets }, { backend })],
        [
          'scores',
          () =>
            groupInfoNCESync(
              { scores: gone(new Float64Array(2)), rewards: new Float32Array(0), cuGroups: offsets },
              { backend },
            ),
        ],
      ];
      for (const [name, call] of calls) {
        expect(call, name).toThrow(
          expect.objectContaining({
            name: 'RlvrError',
            message: expect.stringMatching(new RegExp(`^${name}.*: .*detached`)),
          }),
        );
      }
    });

    test('between forward and backward', async () => {
      for (const name of ['logits', 'targets'] as const) {
        const odd = eachArray(batch, (array) => array.slice());
        const later = await forward(odd, 'logLikelihood', { backend });
        const laterSync = forwardSync(odd, 'logLikelihood', { backend });
        detach(odd[name]);
        const gradScores = new Float64Array(later.scores.length).fill(1);
        const refusal = { name: 'RlvrError', message: expect.stringMatching(new RegExp(`^${name}.*: expected `)) };
        const outcomes = await Promise.allSettled([
          later.backward(gradScores),
          Promise.resolve().then(() => laterSync.backward(gradScores)),
        ]);
        for (const { status, ...rest } of outcomes) {
          expect(status, name).toBe('rejected');
          expect((rest as { reason: unknown }).reason, name).toMatchObject(refusal);
        }
      }
    });
  });

  test('small arrays may be reused as soon as the call has returned', async () => {
    // The offsets are copied: rewriting them while the op runs changes nothing.
    const own = eachArray(batch, (array) => array.slice());
    const pending = conspo(own, { backend });
    own.cuSeqlens.fill(2 ** 31 - 1);
    own.cuGroups.fill(-1);
    const result = await pending;
    expect(result).toEqual(await conspo(batch, { backend }));
  });

  test('logits and targets that another thread rewrites give other numbers, never a crash', async () => {
    const [rows, vocab] = [8, 3000];
    const logits = new Float32Array(new SharedArrayBuffer(rows * vocab * 4));
    const targets = new Int32Array(new SharedArrayBuffer(rows * 4));
    const mask = new Uint8Array(new SharedArrayBuffer(rows)).fill(1);
    const worker = new Worker(
      `const { logits, targets, mask } = require('node:worker_threads').workerData;
      for (let k = 0; ; k++) {
        for (let t = 0; t < ${rows}; t++) {
          logits[t * ${vocab} + 1500] = [40, -Infinity, NaN, 3, Infinity][k % 5];
          targets[t] = k % 7 === 0 ? 2 ** 30 : 5;
          mask[t] = k % 3 === 0 ? 0 : 1;
        }
      }`,
      { eval: true, workerData: { logits, targets, mask } },
    );
    await new Promise((resolve) => worker.once('online', resolve));
    const end = performance.now() + 700;
    let runs = 0;
    for (; performance.now() < end; runs++) {
      try {
        const { logSumExp } = await tokenLogProbs(
          { logits, targets, mask },
          { entropy: true, onNonFinite: 'skip', backend },
        );
        const gradLogProbs = new Float64Array(rows).fill(1);
        tokenLogProbsBackwardSync({ logits, targets, mask, logSumExp, gradLogProbs }, { backend });
      } catch (error) {
        // A target out of range, or a row with NaN or Infinity, when it was read.
        expect(error).toMatchObject({ name: 'RlvrError', code: expect.stringMatching(/^ERR_(RANGE|NONFINITE)$/) });
      }
    }
    await worker.terminate();
    expect(runs).toBeGreaterThan(3);
  });
});
