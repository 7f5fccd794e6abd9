// Tensors in device memory: to and from the host, wrapped memory, and who frees what. Losses on them:
// device-losses.test.ts; errors: device-errors.test.ts.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import { type Device, DeviceTensor, openDevice } from '../lib/cuda/index.js';
import { backends, conspo, conspoSync } from '../lib/index.js';
import { expectClose } from './support/compare.js';
import {
  collectUntil,
  DEVICES,
  describeDevices,
  paddedTensor,
  roundedBatch,
  writtenPadding,
} from './support/device.js';
import { DTYPES, FORMATS, hostTensor, nanArray, numbers, unpadded } from './support/tensors.js';

const SHAPES: [rows: number, columns: number][] = [
  [0, 0],
  [0, 5],
  [1, 1],
  [3, 1],
  [4, 7],
  [5, 64],
  [2, 1025],
];

function randomValues(length: number): Float64Array {
  const random = new Random(length);
  return Float64Array.from({ length }, () => 3 * random.normal());
}

describeDevices('device tensors', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });

  test('a device says what it is', () => {
    const info = backends().find(({ name }) => name === 'cuda')!;
    expect(device).toMatchObject({
      index: 0,
      name: info.device,
      computeCapability: info.computeCapability,
      memory: info.memory,
      disposed: false,
    });
  });

  describe.each(DTYPES)('%s', (dtype) => {
    test.each(SHAPES)('[%i, %i] to the device and back', async (rows, columns) => {
      for (const padding of [0, 3]) {
        const host = hostTensor(randomValues(rows * columns), [rows, columns], dtype, padding);
        const expected = unpadded(host);
        for (const tensor of [await device.upload(host), device.uploadSync(host)]) {
          expect(tensor).toBeInstanceOf(DeviceTensor);
          expect(tensor).toMatchObject({ device, shape: [rows, columns], dtype, rowStride: columns, disposed: false });
          expect(tensor.downloadSync()).toEqual(expected);
          expect(await tensor.download()).toEqual(expected);
          const out = nanArray(dtype, rows * columns);
          expect(tensor.downloadSync(out)).toBe(out);
          expect(out).toEqual(expected);
          const later = nanArray(dtype, rows * columns);
          expect(await tensor.download(later)).toBe(later);
          expect(later).toEqual(expected);
          tensor.dispose();
        }
      }
    });

    test('into a tensor that is there', async () => {
      const [first, second] = [1, 2].map((seed) => hostTensor(randomValues(35 * seed), [5, 7], dtype, 2 * seed));
      const out = device.empty([5, 7], dtype);
      const { pointer } = out;
      expect(await device.upload(first, { out })).toBe(out);
      expect(out.downloadSync()).toEqual(unpadded(first));
      expect(device.uploadSync(second, { out })).toBe(out);
      expect(out.downloadSync()).toEqual(unpadded(second));
      expect(out.pointer).toBe(pointer);
    });

    test('every bit of special values', () => {
      const bits = { f32: [0x7fc12345, 0xff800000, 0x80000000, 1], bf16: [0x7fc1, 0xff80, 0x8000, 1] };
      const values = dtype === 'f32' ? bits.f32 : [...bits.bf16, 0x7c01, 0xfc00];
      const data = dtype === 'f32' ? new Float32Array(Uint32Array.from(values).buffer) : Uint16Array.from(values);
      const back = device.uploadSync({ data, shape: [1, values.length], dtype }).downloadSync();
      expect(new Uint8Array(back.buffer)).toEqual(new Uint8Array(data.buffer));
    });
  });

  test('part of a plain array: an offset into its buffer, and more elements than the rows need', () => {
    const data = Float32Array.from({ length: 20 }, (_, i) => i).subarray(3);
    const tensor = device.uploadSync({ data, shape: [2, 3], rowStride: 4 });
    expect(tensor.downloadSync()).toEqual(Float32Array.of(3, 4, 5, 7, 8, 9));
  });

  test('many transfers at once', async () => {
    const hosts = Array.from({ length: 12 }, (_, i) => hostTensor(randomValues(40 + i), [1, 40 + i], 'f32'));
    const tensors = await Promise.all(hosts.map((host) => device.upload(host)));
    const back = await Promise.all(tensors.map((tensor) => tensor.download()));
    expect(back).toEqual(hosts.map((host) => host.data));
  });

  test('empty: tensors apart from each other, f32 unless told', () => {
    const [first, second] = [device.empty([2, 4]), device.empty([2, 4], 'bf16')];
    expect([first.dtype, second.dtype, first.rowStride]).toEqual(['f32', 'bf16', 4]);
    const distance = second.pointer - first.pointer;
    expect(distance >= 32n || distance <= -16n).toBe(true);
    expect(first.pointer % 256n).toBe(0n);
  });

  test('memory is counted, and given back by dispose, however often', async () => {
    const own = openDevice();
    const [first, second] = [own.empty([10, 10]), await own.upload(hostTensor(randomValues(6), [2, 3], 'f16'))];
    expect(own.allocatedBytes).toBe(400 + 12);
    first.dispose();
    first.dispose();
    expect([first.disposed, own.allocatedBytes]).toEqual([true, 12]);
    second[Symbol.dispose]();
    second.dispose();
    expect([second.disposed, own.allocatedBytes]).toEqual([true, 0]);
  });

  test('dispose while a transfer or a loss is on its way', async () => {
    const { host, batch } = roundedBatch(5, { vocab: 33 });
    const expected = conspoSync({ ...batch, logits: device.uploadSync(host) });
    const tensor = device.uploadSync(host);
    const download = tensor.download();
    tensor.dispose();
    expect(await download).toEqual(unpadded(host));
    const logits = device.uploadSync(host);
    const pending = conspo({ ...batch, logits });
    logits.dispose();
    const littered = Array.from({ length: 4 }, () =>
      device.uploadSync({ ...host, data: nanArray('f32', host.data.length) }),
    );
    const { loss, gradLogits } = await pending;
    expect(loss).toBe(expected.loss);
    expect(gradLogits.downloadSync()).toEqual(expected.gradLogits.downloadSync());
    for (const litter of littered) litter.dispose();
  });

  test('a loss goes on when its device is disposed', async () => {
    const other = openDevice();
    const { host, batch } = roundedBatch(6, { vocab: 33 });
    const pending = conspo({ ...batch, logits: other.uploadSync(host) });
    other.dispose();
    const { loss, gradLogits } = await pending;
    expect([loss, gradLogits.device]).toEqual([conspoSync({ ...batch, logits: device.uploadSync(host) }).loss, other]);
  });

  test('a device may be disposed of twice, and tensors of another one go on', async () => {
    const other = openDevice();
    const tensor = device.uploadSync(hostTensor([1, 2], [1, 2], 'f32'));
    const kept = other.uploadSync(hostTensor([3], [1, 1], 'f32'));
    await other.synchronize();
    other.synchronizeSync();
    other.dispose();
    other[Symbol.dispose]();
    expect([other.disposed, device.disposed]).toEqual([true, false]);
    expect([kept.disposed, kept.device]).toEqual([false, other]);
    kept.dispose();
    expect(tensor.downloadSync()).toEqual(Float32Array.of(1, 2));
  });

  test.each([0n, undefined])('on stream %s', async (stream) => {
    const { host, batch } = roundedBatch(7, { vocab: 20 });
    const foreign = openDevice(0, { stream });
    const logits = await foreign.upload(host);
    const [expected, actual] = [conspoSync(batch, { backend: 'cuda' }), conspoSync({ ...batch, logits })];
    expect(actual.loss).toBe(expected.loss);
    expect(actual.gradLogits.downloadSync()).toEqual(expected.gradLogits);
    const pending = conspo({ ...batch, logits }, { gradient: 'in-place' });
    expect(logits.downloadSync()).toEqual(expected.gradLogits);
    expect((await pending).gradLogits).toBe(logits);
    foreign.dispose();
  });
});

describeDevices('wrapped memory', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });

  test('is the same memory', () => {
    const owner = device.uploadSync(hostTensor([1, 2, 3, 4, 5, 6], [2, 3], 'f32'));
    const wrapped = device.wrap({ pointer: owner.pointer, shape: [3, 2], dtype: 'f32', owner });
    expect(wrapped).toMatchObject({ device, shape: [3, 2], dtype: 'f32', rowStride: 2, pointer: owner.pointer });
    expect(wrapped.owner).toBe(owner);
    expect(wrapped.downloadSync()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    device.uploadSync(
      { data: Float32Array.of(7, 8), shape: [1, 2] },
      { out: device.wrap({ pointer: owner.pointer + 8n, shape: [1, 2], dtype: 'f32', owner }) },
    );
    expect(owner.downloadSync()).toEqual(Float32Array.of(1, 2, 7, 8, 5, 6));
  });

  test('without rows, and without an owner', () => {
    const { pointer } = device.empty([1, 1]);
    const wrapped = device.wrap({ pointer, shape: [0, 4], dtype: 'bf16', rowStride: 9 });
    expect(wrapped.downloadSync()).toEqual(new Uint16Array(0));
    expect(wrapped.owner).toBeUndefined();
  });

  describe.each(DTYPES)('%s rows with padding, not aligned to 16 bytes', (dtype) => {
    test.each(SHAPES)('[%i, %i]: transfers leave the padding alone', async (rows, columns) => {
      const host = hostTensor(randomValues(rows * columns), [rows, columns], dtype, 2);
      for (const offset of [0, 1, 3]) {
        const padded = paddedTensor(device, host, { offset, padding: 3 });
        const { tensor } = padded;
        expect(tensor).toMatchObject({ rowStride: columns + 3, shape: [rows, columns] });
        expect(tensor.pointer - padded.whole.pointer).toBe(BigInt(offset * FORMATS[dtype].bytes));
        expect(tensor.downloadSync()).toEqual(unpadded(host));
        expect(await tensor.download()).toEqual(unpadded(host));
        const other = hostTensor(randomValues(rows * columns + 1).subarray(1), [rows, columns], dtype);
        expect(await device.upload(other, { out: tensor })).toBe(tensor);
        expect(tensor.downloadSync()).toEqual(unpadded(other));
        expect(writtenPadding(padded)).toBe(0);
      }
    });

    test('the gradient in place and elsewhere leaves the padding alone', () => {
      for (const vocab of [1, 8, 37, 1024, 1027]) {
        const { host, batch } = roundedBatch(vocab, { vocab, groups: 2, dtype });
        const contiguous = conspoSync({ ...batch, logits: device.uploadSync(host) }).gradLogits;
        const expected = numbers(contiguous.downloadSync(), dtype);
        for (const offset of [0, 1, 3]) {
          const logits = paddedTensor(device, host, { offset });
          const out = paddedTensor(device, host, { offset: offset + 1, padding: 2 });
          conspoSync({ ...batch, logits: logits.tensor }, { gradient: { out: out.tensor } });
          expectClose(numbers(out.tensor.downloadSync(), dtype), expected, TOKEN_TOLERANCE.gradient[dtype]);
          conspoSync({ ...batch, logits: logits.tensor }, { gradient: 'in-place' });
          expect(logits.tensor.downloadSync()).toEqual(out.tensor.downloadSync());
          expect([writtenPadding(logits), writtenPadding(out)]).toEqual([0, 0]);
        }
      }
    });
  });

  test('dispose frees nothing of it', () => {
    const own = openDevice();
    const owner = own.uploadSync(hostTensor([1, 2, 3], [1, 3], 'f32'));
    const wrapped = own.wrap({ pointer: owner.pointer, shape: [1, 3], dtype: 'f32', owner });
    expect(own.allocatedBytes).toBe(12);
    wrapped.dispose();
    wrapped.dispose();
    expect([wrapped.disposed, wrapped.owner, own.allocatedBytes]).toEqual([true, undefined, 12]);
    expect(owner.downloadSync()).toEqual(Float32Array.of(1, 2, 3));
  });

  /** A tensor on memory whose owner nothing else refers to. */
  function wrapOfForgotten(device: Device): { wrapped: DeviceTensor; owner: WeakRef<DeviceTensor> } {
    const owner = device.uploadSync(hostTensor([1, 2, 3], [1, 3], 'f32'));
    const wrapped = device.wrap({ pointer: owner.pointer, shape: [1, 3], dtype: 'f32', owner });
    return { wrapped, owner: new WeakRef(owner) };
  }

  test('keeps its owner, until it is disposed', async () => {
    const own = openDevice();
    const { wrapped, owner } = wrapOfForgotten(own);
    expect(await collectUntil(() => owner.deref() === undefined)).toBe(false);
    expect(wrapped.downloadSync()).toEqual(Float32Array.of(1, 2, 3));
    wrapped.dispose();
    expect(await collectUntil(() => owner.deref() === undefined)).toBe(true);
    expect(await collectUntil(() => own.allocatedBytes === 0)).toBe(true);
  });

  test('keeps its owner while a loss that nobody else holds runs on it', async () => {
    const { host, batch } = roundedBatch(11, { vocab: 50 });
    const expected = conspoSync({ ...batch, logits: paddedTensor(device, host).tensor }).loss;
    const begin = () => conspo({ ...batch, logits: paddedTensor(device, host).tensor }, { gradient: 'in-place' });
    const pending = begin();
    await collectUntil(() => false);
    const { loss, gradLogits } = await pending;
    expect(loss).toBe(expected);
    expect(gradLogits.owner).toBeInstanceOf(DeviceTensor);
  });
});

describeDevices(
  'two devices',
  () => {
    test('each has its own memory, stream and results', async () => {
      const devices = Array.from({ length: DEVICES }, (_, index) => openDevice(index));
      const batches = devices.map((_, i) => roundedBatch(20 + i, { vocab: 40 }));
      const tensors = await Promise.all(devices.map((device, i) => device.upload(batches[i].host)));
      const pending = tensors.map((logits, i) => conspo({ ...batches[i].batch, logits }, { gradient: 'in-place' }));
      for (const [i, { loss, gradLogits }] of (await Promise.all(pending)).entries()) {
        const expected = conspoSync(batches[i].batch, { backend: 'cuda' });
        expect([gradLogits, gradLogits.device, devices[i].index]).toEqual([tensors[i], devices[i], i]);
        expect(loss).toBe(expected.loss);
        expect(await gradLogits.download()).toEqual(expected.gradLogits);
      }
    });

    test('memory of one is not memory of the other', () => {
      const [first, second] = [openDevice(0), openDevice(1)];
      const { pointer } = second.empty([2, 2]);
      expect(() => first.wrap({ pointer, shape: [2, 2], dtype: 'f32' })).toThrow(
        expect.objectContaining({
          code: 'ERR_BACKEND',
          message: 'pointer: expected memory of device 0, got memory of device 1',
        }),
      );
    });
  },
  2,
);
