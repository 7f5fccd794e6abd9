// Device tensors used wrongly, or after their end: every error names what it is about. Out of memory:
// device-out-of-memory.test.ts.
import { getEventListeners } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, type DeviceTensor, type ForeignMemory, openDevice } from '../lib/cuda/index.js';
import {
  type BackendName,
  conspo,
  conspoSync,
  type DType,
  disco,
  forward,
  forwardSync,
  grpoSync,
  type Logits,
  tokenLogProbs,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from '../lib/index.js';
import { DEVICES, describeDevices, roundedBatch } from './support/device.js';
import { failureOf, rlvrError } from './support/errors.js';
import { nanArray } from './support/tensors.js';

const VOCAB = 12;
const { host, batch } = roundedBatch(50, { vocab: VOCAB });
const T = batch.targets.length;

async function expectError(call: () => unknown, code: string, message: RegExp): Promise<void> {
  expect(await failureOf(call)).toEqual(rlvrError(code, message));
}

describeDevices('device errors', () => {
  let device: Device;
  let logits: DeviceTensor;
  beforeAll(() => {
    device = openDevice();
    logits = device.uploadSync(host);
  });
  afterAll(() => {
    expect(logits.downloadSync(), 'logits that no call may have written').toEqual(host.data);
    device.dispose();
  });

  /** A loss with this gradient option. */
  const into = (out: Logits, from: Logits = logits) => conspoSync({ ...batch, logits: from }, { gradient: { out } });

  describe('after dispose', () => {
    function disposed(): DeviceTensor {
      const tensor = device.uploadSync(host);
      tensor.dispose();
      return tensor;
    }
    const got = (argument: string) =>
      new RegExp(`^${argument}: expected a DeviceTensor with its memory, got a disposed`);
    const perToken = new Float64Array(T);

    test.each<[name: string, argument: string, call: (tensor: DeviceTensor) => unknown]>([
      ['conspo', 'logits', (tensor) => conspo({ ...batch, logits: tensor })],
      ['conspoSync', 'logits', (tensor) => conspoSync({ ...batch, logits: tensor })],
      ['grpoSync in place', 'logits', (tensor) => grpoSync({ ...batch, logits: tensor }, { gradient: 'in-place' })],
      ['forward', 'logits', (tensor) => forward({ ...batch, logits: tensor }, 'logLikelihood')],
      ['tokenLogProbs', 'logits', (tensor) => tokenLogProbs({ ...batch, logits: tensor })],
      [
        'tokenLogProbsBackwardSync',
        'logits',
        (tensor) =>
          tokenLogProbsBackwardSync({ ...batch, logits: tensor, logSumExp: perToken, gradLogProbs: perToken }),
      ],
      ['gradient.out', 'gradient.out', (tensor) => into(tensor)],
      ['download', 'download', (tensor) => tensor.download()],
      ['downloadSync', 'download', (tensor) => tensor.downloadSync()],
      ['pointer', 'pointer', (tensor) => tensor.pointer],
      ['upload', 'out', (tensor) => device.upload(host, { out: tensor })],
      ['uploadSync', 'out', (tensor) => device.uploadSync(host, { out: tensor })],
    ])('a tensor: %s', async (_name, argument, call) => {
      await expectError(() => call(disposed()), 'ERR_DISPOSED', got(argument));
    });

    test('a tensor, between forward and backward', async () => {
      const own = device.uploadSync(host);
      const later = await forward({ ...batch, logits: own }, 'logLikelihood');
      const now = forwardSync({ ...batch, logits: own }, 'logLikelihood');
      own.dispose();
      await expectError(() => later.backward(later.scores), 'ERR_DISPOSED', got('logits'));
      await expectError(() => now.backward(now.scores), 'ERR_DISPOSED', got('logits'));
    });

    test('a tensor, while a loss that reads on its way still needs it', async () => {
      const own = device.uploadSync(host);
      const pending = disco({ ...batch, logits: own });
      own.dispose();
      await expectError(() => pending, 'ERR_DISPOSED', got('logits'));
    });

    function ofDisposedDevice() {
      const other = openDevice();
      const tensor = other.uploadSync(host);
      other.dispose();
      return { other, tensor };
    }

    test.each<[name: string, call: (tensor: DeviceTensor) => unknown]>([
      ['download', (tensor) => tensor.download()],
      ['downloadSync', (tensor) => tensor.downloadSync()],
      ['pointer', (tensor) => tensor.pointer],
    ])('the device of a tensor: %s', async (name, call) => {
      const message = new RegExp(
        `^${name.replace('Sync', '')}: expected a DeviceTensor .* got one of a disposed device$`,
      );
      await expectError(() => call(ofDisposedDevice().tensor), 'ERR_DISPOSED', message);
    });

    test.each<[name: string, call: (other: Device, tensor: DeviceTensor) => unknown]>([
      ['logits', (_, tensor) => conspo({ ...batch, logits: tensor })],
      ['logits, sync', (_, tensor) => tokenLogProbsSync({ ...batch, logits: tensor })],
      ['gradient.out', (_, tensor) => into(tensor, tensor)],
      ['upload', (other) => other.upload(host)],
      ['uploadSync', (other, tensor) => other.uploadSync(host, { out: tensor })],
      ['empty', (other) => other.empty([1, 1])],
      ['wrap', (other) => other.wrap({ pointer: logits.pointer, shape: [1, 1], dtype: 'f32' })],
      ['synchronize', (other) => other.synchronize()],
      ['synchronizeSync', (other) => other.synchronizeSync()],
      ['allocatedBytes', (other) => other.allocatedBytes],
    ])('a device: %s', async (_name, call) => {
      const { other, tensor } = ofDisposedDevice();
      await expectError(
        () => call(other, tensor),
        'ERR_DISPOSED',
        /^device: expected an open Device, got a disposed one$/,
      );
    });
  });

  describe('the wrong place for a gradient', () => {
    test.each<[name: string, call: () => unknown, code: string, message: RegExp]>([
      [
        'another dtype',
        () => into(device.empty([T, VOCAB], 'bf16')),
        'ERR_DTYPE',
        /^gradient\.out: expected the dtype/,
      ],
      ['another V', () => into(device.empty([T, VOCAB + 1])), 'ERR_SHAPE', /^gradient\.out: expected V = 12, got 13$/],
      ['another T', () => into(device.empty([T + 1, VOCAB])), 'ERR_SHAPE', /^gradient\.out\.shape: expected \d+ rows/],
      ['host memory', () => into(new Float32Array(T * VOCAB)), 'ERR_DTYPE', /^gradient\.out: expected a DeviceTensor/],
      ['a host tensor', () => into(host), 'ERR_DTYPE', /^gradient\.out: expected a DeviceTensor/],
      [
        'device memory, for host logits',
        () => into(device.empty([T, VOCAB]), batch.logits),
        'ERR_DTYPE',
        /^gradient\.out: expected host memory, as the logits, got /,
      ],
      [
        'another Device object',
        () => into(openDevice().empty([T, VOCAB])),
        'ERR_BACKEND',
        /^gradient\.out: expected a tensor of the device of the logits, got one of another Device$/,
      ],
    ])('%s', async (_name, call, code, message) => {
      await expectError(call, code, message);
    });

    test.each([1, VOCAB, (T - 1) * VOCAB + VOCAB - 1])('a partial overlap, from element %i on', async (offset) => {
      const whole = device.empty([2 * T, VOCAB]);
      const part = (element: number, rowStride = VOCAB) =>
        device.wrap({ pointer: whole.pointer + 4n * BigInt(element), shape: [T, VOCAB], dtype: 'f32', rowStride });
      const overlap =
        /^gradient\.out: expected the logits themselves or memory apart from them, got a partial overlap$/;
      const from = device.uploadSync(host, { out: part(0) });
      await expectError(() => into(part(offset), from), 'ERR_RANGE', overlap);
      await expectError(() => into(from, part(offset)), 'ERR_RANGE', overlap);
      await expectError(() => into(part(0, VOCAB + 1), from), 'ERR_RANGE', overlap);
      expect(from.downloadSync()).toEqual(host.data);
      const gradLogits = part(T * VOCAB); // just behind
      into(gradLogits, from);
      expect(gradLogits.downloadSync()).toEqual(conspoSync({ ...batch, logits }).gradLogits.downloadSync());
      into(part(0), from); // the same memory, wrapped anew
      expect(from.downloadSync()).toEqual(gradLogits.downloadSync());
    });
  });

  test.each<BackendName>(['cpu', 'reference'])("backend: '%s' for a device tensor", async (backend) => {
    const message = new RegExp(`^backend: expected 'cuda' for logits in a DeviceTensor, got "${backend}"$`);
    await expectError(() => conspo({ ...batch, logits }, { backend }), 'ERR_BACKEND', message);
    await expectError(() => tokenLogProbsSync({ ...batch, logits }, { backend }), 'ERR_BACKEND', message);
  });

  test('a device tensor where it does not belong, or of another T', async () => {
    const targets = logits as never;
    await expectError(() => conspoSync({ ...batch, logits, targets }), 'ERR_DTYPE', /^targets: expected Int32Array/);
    const short = { ...batch, logits: device.empty([T - 1, VOCAB]) };
    await expectError(() => conspoSync(short), 'ERR_SHAPE', /^logits\.shape: expected \d+ rows \(T/);
  });

  describe('wrap', () => {
    const wrap = (foreign: Partial<Record<keyof ForeignMemory, unknown>>) => () =>
      device.wrap({ pointer: logits.pointer, shape: [2, 3], dtype: 'f32', ...foreign } as ForeignMemory);

    test.each<[name: string, foreign: Parameters<typeof wrap>[0], code: string, message: RegExp]>([
      ["memory that is nobody's", { pointer: 0x1000n }, 'ERR_BACKEND', /^pointer: expected memory of device 0, got \w/],
      ['null', { pointer: 0n }, 'ERR_RANGE', /^pointer: expected an address as a bigint, got 0n$/],
      ['below 0', { pointer: -8n }, 'ERR_RANGE', /^pointer: .* got -8n$/],
      ['above 64 bits', { pointer: 2n ** 64n }, 'ERR_RANGE', /^pointer: .* got 18446744073709551616n$/],
      ['a number', { pointer: 4096 }, 'ERR_RANGE', /^pointer: .* got 4096$/],
      ['no pointer', { pointer: undefined }, 'ERR_RANGE', /^pointer: .* got undefined$/],
      ['rows that overlap', { rowStride: 2 }, 'ERR_RANGE', /^rowStride: .* at least 3 and .*, got 2$/],
      ['half a stride', { rowStride: 3.5 }, 'ERR_RANGE', /^rowStride: .* got 3.5$/],
      ['a flat shape', { shape: [6] }, 'ERR_SHAPE', /^shape: expected \[T, V\]/],
      ['a negative shape', { shape: [-1, 6] }, 'ERR_RANGE', /^shape\[0\]: /],
      ['too much', { shape: [2 ** 40, 2 ** 20] }, 'ERR_RANGE', /^shape: /],
      ['no dtype', { dtype: undefined }, 'ERR_RANGE', /^dtype: expected 'f32' or .*'float16', got undefined$/],
      ['an unknown dtype', { dtype: 'f64' }, 'ERR_RANGE', /^dtype: .* got "f64"$/],
    ])('%s', async (_name, foreign, code, message) => {
      await expectError(wrap(foreign), code, message);
    });

    test('a pointer that is not aligned to its elements', async () => {
      const at = (bytes: bigint) => ({ pointer: logits.pointer + bytes });
      await expectError(wrap(at(2n)), 'ERR_RANGE', /^pointer: expected a multiple of 4, the bytes of a f32, got \d+n$/);
      await expectError(wrap({ ...at(1n), dtype: 'f16' }), 'ERR_RANGE', /^pointer: expected a multiple of 2/);
      expect(wrap({ ...at(2n), dtype: 'f16' })().shape).toEqual([2, 3]);
    });

    test('nothing at all', async () => {
      await expectError(
        () => device.wrap(undefined as never),
        'ERR_DTYPE',
        /^foreign: expected an object, got undefined$/,
      );
    });
  });

  test('no such device', async () => {
    const message = new RegExp(`^index: expected a CUDA device, got 77: no device 77: there are ${DEVICES}$`);
    await expectError(() => openDevice(77), 'ERR_BACKEND', message);
    for (const index of [-1, 1.5, NaN, '0', null, 2 ** 40]) {
      await expectError(() => openDevice(index as never), 'ERR_RANGE', /^index: expected a/);
    }
    for (const stream of [0, -1n, 2n ** 64n, null, 'default']) {
      await expectError(
        () => openDevice(0, { stream: stream as never }),
        'ERR_RANGE',
        /^stream: expected a cudaStream_t/,
      );
    }
    await expectError(() => openDevice(0, null as never), 'ERR_DTYPE', /^options: expected an object, got null$/);
  });

  describe('transfers', () => {
    const upload = (data: unknown, out: unknown) => device.upload(data as never, { out: out as never });

    test.each<[name: string, call: () => unknown, code: string, message: RegExp]>([
      ['no host tensor', () => upload(undefined, undefined), 'ERR_DTYPE', /^host: expected an object/],
      ['an array without its shape', () => upload(batch.logits, undefined), 'ERR_DTYPE', /^host: expected an object/],
      ['too little data', () => upload({ ...host, data: nanArray('f32', 5) }, undefined), 'ERR_SHAPE', /^host\.data: /],
      [
        'another dtype',
        () => upload(host, device.empty([T, VOCAB], 'f16')),
        'ERR_DTYPE',
        /^out: expected f32, got f16$/,
      ],
      [
        'another shape',
        () => upload(host, device.empty([VOCAB, T])),
        'ERR_SHAPE',
        /^out: expected shape \[\d+, 12\], got/,
      ],
      [
        'into host memory',
        () => upload(host, batch.logits),
        'ERR_DTYPE',
        /^out: expected a DeviceTensor, got Float32Array/,
      ],
      ['into another device', () => upload(host, openDevice().empty([T, VOCAB])), 'ERR_BACKEND', /^out: .* another$/],
      [
        'out of another dtype',
        () => logits.download(new Uint16Array(T * VOCAB)),
        'ERR_DTYPE',
        /^out: expected Float32Array/,
      ],
      [
        'out too short',
        () => logits.downloadSync(new Float32Array(5)),
        'ERR_SHAPE',
        /^out: expected \d+ elements \(T \* V\)/,
      ],
    ])('%s', async (_name, call, code, message) => {
      await expectError(call, code, message);
    });
  });

  describe('empty', () => {
    test.each<[name: string, shape: unknown, dtype: unknown, code: string, message: RegExp]>([
      ['no shape', undefined, 'f32', 'ERR_SHAPE', /^shape: expected \[T, V\], got undefined$/],
      ['rows of nothing', [2, 0], 'f32', 'ERR_RANGE', /^shape\[1\]: .* at least 1 and .*, got 0$/],
      ['an unknown dtype', [2, 2], 'f8', 'ERR_RANGE', /^dtype: .* got "f8"$/],
      ['a shape beyond any device', [2 ** 30, 2 ** 30], 'f32', 'ERR_RANGE', /^shape: /],
      ['more than there is', [2 ** 23, 2 ** 23], 'f32', 'ERR_CUDA', /^cudaErrorMemoryAllocation: out of memory$/],
    ])('%s', async (_name, shape, dtype, code, message) => {
      await expectError(() => device.empty(shape as [number, number], dtype as DType), code, message);
      expect(device.empty([1, 1]).dtype).toBe('f32');
    });
  });

  describe('an AbortSignal', () => {
    test('aborted before: nothing is begun', async () => {
      const own = device.uploadSync(host);
      const signal = AbortSignal.abort(new Error('not wanted'));
      for (const call of [
        () => conspo({ ...batch, logits: own }, { gradient: 'in-place', signal }),
        () => tokenLogProbs({ ...batch, logits: own }, { signal }),
        () => forward({ ...batch, logits: own }, 'logLikelihood', { signal }),
      ]) {
        expect(await failureOf(call)).toMatchObject({ code: 'ERR_ABORTED', cause: signal.reason });
      }
      expect(own.downloadSync()).toEqual(host.data);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    });

    test('aborted on the way: rejects, and the device goes on', async () => {
      const expected = conspoSync({ ...batch, logits });
      const controller = new AbortController();
      const { signal } = controller;
      const pending = Array.from({ length: 4 }, () =>
        conspo({ ...batch, logits: device.uploadSync(host) }, { gradient: 'in-place', signal }),
      );
      const other = conspo({ ...batch, logits });
      controller.abort();
      for (const outcome of await Promise.allSettled(pending)) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_ABORTED' } });
      }
      expect((await other).loss).toBe(expected.loss);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    });
  });
});
