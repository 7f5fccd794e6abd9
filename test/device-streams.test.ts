// Streams and events of other libraries: whose they are, what is ordered, what is refused. The emulation plays the library.
import { afterEach, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../lib/cuda/index.js';
import { conspo, conspoSync, tokenLogProbs } from '../lib/index.js';
import { collectUntil, DEVICES, type Emulation, emulation, roundedBatch } from './support/device.js';
import { failureOf, rlvrError } from './support/errors.js';

const { host, batch } = roundedBatch(61, { vocab: 40 });
const LIVE = /^stream: expected a live stream of device 0, got /;

async function expectError(call: () => unknown, code: string, message: RegExp): Promise<void> {
  expect(await failureOf(call)).toEqual(rlvrError(code, message));
}

describe.runIf(emulation && DEVICES > 0)('streams of other libraries', () => {
  const { createStream, destroyStream, createEvent, destroyEvent, recordEvent, setMemory } =
    emulation ?? ({} as Emulation);
  let streams: bigint[] = [];
  const newStream = (device = 0) => {
    const stream = createStream(device);
    streams.push(stream);
    return stream;
  };
  afterEach(() => {
    for (const stream of streams) destroyStream(stream);
    streams = [];
    expect(emulation!.misuses()).toBeUndefined();
  });

  test('losses and copies run on it', async () => {
    const expected = conspoSync(batch, { backend: 'cuda' });
    const device = openDevice(0, { stream: newStream() });
    const logits = await device.upload(host);
    expect(await logits.download()).toEqual(host.data);
    const { loss, gradLogits } = await conspo({ ...batch, logits }, { gradient: 'in-place' });
    expect([loss, await gradLogits.download()]).toEqual([expected.loss, expected.gradLogits]);
    logits.dispose();
    device.dispose();
  });

  test('1n is the default stream, as 0n', async () => {
    const [first, second] = [0n, 1n].map((stream) => openDevice(0, { stream }));
    const tensor = first.uploadSync(host);
    const [rows, columns] = host.shape;
    setMemory(0n, tensor.pointer, 0, 4 * rows * columns);
    const view = second.wrap({ pointer: tensor.pointer, shape: host.shape, dtype: 'f32' });
    expect(await view.download()).toEqual(new Float32Array(rows * columns));
  });

  test('2n is another stream on every thread: refused, saying so', async () => {
    const message =
      /^stream: expected a cudaStream_t that is one stream, got 2n \(cudaStreamPerThread\), which is another/;
    await expectError(() => openDevice(0, { stream: 2n }), 'ERR_RANGE', message);
    const device = openDevice();
    const { pointer } = device.empty([1, 1]);
    await expectError(() => device.wrap({ pointer, shape: [1, 1], dtype: 'f32', stream: 2n }), 'ERR_RANGE', message);
  });

  test('its owner is kept alive as long as memory is freed on it, and no longer', async () => {
    let finished = 0;
    const registry = new FinalizationRegistry((stream: bigint) => {
      destroyStream(stream);
      finished++;
    });
    const open = () => {
      const stream = createStream(0);
      const owner = { stream };
      registry.register(owner, stream);
      return openDevice(0, { stream, owner }).uploadSync(host);
    };
    const kept = open();
    expect(await collectUntil(() => finished > 0)).toBe(false);
    expect(await kept.download()).toEqual(host.data);
    for (let i = 0; i < 5; i++) open(); // forgotten at once, with their devices
    expect(await collectUntil(() => finished === 5)).toBe(true);
    expect(emulation!.misuses()).toBeUndefined();
    kept.dispose();
  });

  test('wrap with a stream: what is on it comes first', async () => {
    const stream = newStream();
    const device = openDevice();
    const [rows, columns] = host.shape;
    const memory = device.uploadSync(host);
    setMemory(stream, memory.pointer, 0, 4 * rows * columns);
    const tensor = device.wrap({ pointer: memory.pointer, shape: host.shape, dtype: 'f32', stream, owner: memory });
    const { logProbs } = await tokenLogProbs({ logits: tensor, targets: batch.targets });
    expect([...logProbs]).toEqual(logProbs.length ? [...logProbs.map(() => -Math.log(columns))].map(closeTo) : []);
  });

  test('events order streams both ways', async () => {
    const [stream, event] = [newStream(), createEvent(0)];
    const device = openDevice();
    const [rows, columns] = host.shape;
    const tensor = device.uploadSync(host);
    setMemory(stream, tensor.pointer, 0, 4 * rows * columns);
    recordEvent(event, stream);
    device.waitEvent(event);
    expect(tensor.downloadSync()).toEqual(new Float32Array(rows * columns));

    const other = openDevice(0, { stream });
    device.uploadSync(host, { out: tensor });
    conspoSync({ ...batch, logits: tensor });
    const pending = conspo({ ...batch, logits: tensor }, { gradient: 'in-place' });
    device.recordEvent(event);
    other.waitEvent(event);
    const view = other.wrap({ pointer: tensor.pointer, shape: host.shape, dtype: 'f32', owner: tensor });
    expect(view.downloadSync()).toEqual(conspoSync(batch, { backend: 'cuda' }).gradLogits);
    await pending;
    destroyEvent(event);
  });

  test.runIf(DEVICES > 1)('a stream or an event of another device is refused', async () => {
    const stream = newStream(1);
    await expectError(() => openDevice(0, { stream }), 'ERR_CUDA', new RegExp(`${LIVE.source}one of another device$`));
    const device = openDevice();
    const { pointer } = device.empty([1, 1]);
    const wrap = () => device.wrap({ pointer, shape: [1, 1], dtype: 'f32', stream });
    await expectError(wrap, 'ERR_CUDA', new RegExp(`${LIVE.source}one of another device$`));
    const event = createEvent(1);
    await expectError(() => device.recordEvent(event), 'ERR_CUDA', /^cudaErrorInvalidResourceHandle: /);
    device.waitEvent(event); // CUDA lets streams wait for other devices
    destroyEvent(event);
  });

  describe('under capture', () => {
    const onlyDevice = /^device: expected one whose stream is not under capture: .*, got one under capture$/;
    const onlyLogits =
      /^logits: expected a tensor of a device whose stream is not under capture: .*, got one under capture$/;

    test('nothing is opened on it, or waits for it', async () => {
      const stream = newStream();
      emulation!.beginCapture(stream);
      const message = new RegExp(`${LIVE.source}one under capture, where no memory can be allocated$`);
      await expectError(() => openDevice(0, { stream }), 'ERR_CUDA', message);
      const device = openDevice();
      const { pointer } = device.empty([1, 1]);
      const wrap = () => device.wrap({ pointer, shape: [1, 1], dtype: 'f32', stream });
      await expectError(wrap, 'ERR_CUDA', message);
      expect(emulation!.endCapture(stream)).toBe(true);
      expect(wrap().shape).toEqual([1, 1]);
    });

    test('losses, copies and waits are refused; the capture goes on, and so does the device', async () => {
      const stream = newStream();
      const device = openDevice(0, { stream });
      const logits = device.uploadSync(host);
      const expected = await conspo({ ...batch, logits });
      const { length } = await logits.download();
      emulation!.beginCapture(stream);
      await expectError(() => conspo({ ...batch, logits }), 'ERR_CUDA', onlyLogits);
      await expectError(() => conspoSync({ ...batch, logits }, { gradient: 'in-place' }), 'ERR_CUDA', onlyLogits);
      for (const call of [
        () => device.empty([1, 1]),
        () => device.upload(host),
        () => device.uploadSync(host, { out: logits }),
        () => logits.download(),
        () => logits.downloadSync(new Float32Array(length)),
        () => device.synchronize(),
        () => device.synchronizeSync(),
        () => device.trim(),
        () => device.waitEvent(1n),
        () => device.recordEvent(1n),
      ]) {
        await expectError(call, 'ERR_CUDA', onlyDevice);
      }
      expect(emulation!.endCapture(stream)).toBe(true);
      const { loss } = await conspo({ ...batch, logits });
      expect(loss).toBe(expected.loss);
      expect(logits.downloadSync()).toEqual(host.data);
    });

    test('tensors disposed of meanwhile are freed afterwards', () => {
      const stream = newStream();
      const device = openDevice(0, { stream });
      const [first, second] = [device.uploadSync(host), device.empty([1, 1])];
      const { allocatedBytes } = device;
      emulation!.beginCapture(stream);
      first.dispose();
      expect(device.allocatedBytes).toBe(allocatedBytes);
      expect(emulation!.endCapture(stream)).toBe(true);
      second.dispose();
      expect(device.allocatedBytes).toBe(0);
    });
  });

  test.each<[name: string, call: (device: Device) => void]>([
    ['waitEvent', (device) => device.waitEvent(0n)],
    ['recordEvent', (device) => device.recordEvent(5 as never)],
    ['recordEvent', (device) => device.recordEvent(2n ** 64n)],
  ])('%s of what is no event', async (_name, call) => {
    await expectError(() => call(openDevice()), 'ERR_RANGE', /^event: expected a cudaEvent_t as a bigint, got /);
  });
});

// Last, since the emulation counts what it is asked of dead handles.
describe.runIf(emulation && DEVICES > 0)('dead handles', () => {
  test('a stream that is gone is refused', async () => {
    const stream = emulation!.createStream(0);
    emulation!.destroyStream(stream);
    const message = new RegExp(`${LIVE.source}one that CUDA does not know, or may not touch now$`);
    await expectError(() => openDevice(0, { stream }), 'ERR_CUDA', message);
  });

  test('a stream that went too early takes no memory along', async () => {
    const stream = emulation!.createStream(0);
    const device = openDevice(0, { stream });
    const before = emulation!.liveAllocations();
    const tensor = device.uploadSync(host);
    emulation!.destroyStream(stream);
    await expectError(() => tensor.downloadSync(), 'ERR_CUDA', /^cudaErrorInvalidResourceHandle: /);
    tensor.dispose();
    expect(device.allocatedBytes).toBe(0);
    expect(emulation!.liveAllocations()).toBeLessThanOrEqual(before);
  });

  test('an event that is gone is refused', async () => {
    const event = emulation!.createEvent(0);
    emulation!.destroyEvent(event);
    await expectError(() => openDevice().waitEvent(event), 'ERR_CUDA', /^cudaErrorInvalidResourceHandle: /);
    await expectError(() => openDevice().recordEvent(event), 'ERR_CUDA', /^cudaErrorInvalidResourceHandle: /);
  });
});

function closeTo(value: number) {
  return expect.closeTo(value, 5);
}
