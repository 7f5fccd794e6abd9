// Copies to and from device memory that wait for a thread (test/boundary/threads.test.ts): what the caller does meanwhile.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Device, openDevice } from '../lib/cuda/index.js';
import { conspo, conspoSync } from '../lib/index.js';
import { describeDevices, roundedBatch } from './support/device.js';
import { rlvrError } from './support/errors.js';
import { unpadded } from './support/tensors.js';

const MANY = 24; // of which two have a thread

describeDevices('a queue of copies', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });
  const { host, batch } = roundedBatch(5, { vocab: 33, padding: 2 });
  const many = <T>(make: (i: number) => T) => Array.from({ length: MANY }, (_, i) => make(i));

  test('tensors that are disposed of meanwhile keep their memory until their copies are done', async () => {
    const own = openDevice();
    const tensors = await Promise.all(many(() => own.upload(host)));
    const downloads = tensors.map((tensor) => tensor.download());
    for (const tensor of tensors) tensor.dispose();
    expect(tensors.every((tensor) => tensor.disposed)).toBe(true);
    await expect(tensors[MANY - 1].download()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    for (const values of await Promise.all(downloads)) expect(values).toEqual(unpadded(host));
    expect(own.allocatedBytes).toBe(0);
    const outs = many(() => own.empty(host.shape));
    const uploads = outs.map((out) => own.upload(host, { out }));
    for (const out of outs) out.dispose();
    expect((await Promise.all(uploads)).map((tensor) => tensor.disposed)).toEqual(many(() => true));
    expect(own.allocatedBytes).toBe(0);
    own.dispose();
  });

  test('host arrays that are taken away give an error', async () => {
    const alive: unknown[] = [];
    const take = (array: Float32Array) =>
      alive.push(structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] }));
    const hosts = many(() => ({ ...host, data: host.data.slice() as Float32Array }));
    const uploads = hosts.map((each) => device.upload(each));
    for (const { data } of hosts) take(data);
    const gone = (name: string) => rlvrError('ERR_DTYPE', `${name}: expected an array that keeps its memory`);
    for (const outcome of await Promise.allSettled(uploads)) {
      expect(outcome).toEqual({ status: 'rejected', reason: gone('host.data') });
    }
    const tensor = device.uploadSync(host);
    const outs = many(() => new Float32Array(tensor.shape[0] * tensor.shape[1]));
    const downloads = outs.map((out) => tensor.download(out));
    for (const out of outs) take(out);
    for (const outcome of await Promise.allSettled(downloads)) {
      expect(outcome).toEqual({ status: 'rejected', reason: gone('out') });
    }
    tensor.dispose();
  });

  test('losses on host arrays queue their copies, and leave the queue when aborted', async () => {
    const expected = conspoSync({ ...batch, logits: host }, { backend: 'cuda' });
    const controller = new AbortController();
    const { signal } = controller;
    const calls = many((i) => conspo({ ...batch, logits: host }, { backend: 'cuda', ...(i % 2 && { signal }) }));
    controller.abort();
    for (const [i, outcome] of (await Promise.allSettled(calls)).entries()) {
      if (i % 2) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_ABORTED' } });
      else expect(outcome).toEqual({ status: 'fulfilled', value: expected });
    }
  });

  test('copyInputs leaves tensors on the device where they are', async () => {
    const [copied, plain] = [device.uploadSync(host), device.uploadSync(host)];
    const rewards = batch.rewards.slice();
    const options = { gradient: 'in-place', copyInputs: true } as const;
    const pending = conspo({ ...batch, logits: copied, rewards }, options);
    rewards.fill(0);
    const { gradLogits, loss } = await pending;
    expect(gradLogits).toBe(copied);
    expect(loss).toBe(conspoSync({ ...batch, logits: plain }, { gradient: 'in-place' }).loss);
    expect(copied.downloadSync()).toEqual(plain.downloadSync());
    for (const tensor of [copied, plain]) tensor.dispose();
  });
});
