// What happens when an allocation fails, or the record of an event, each one in turn: only the emulation can make them fail.
import { afterAll, describe, expect, test } from 'vitest';
import { type Device, type DeviceTensor, openDevice } from '../lib/cuda/index.js';
import { conspo, conspoSync, disco, forward, grpoSync, tokenLogProbs } from '../lib/index.js';
import { collectUntil, DEVICES, emulation, roundedBatch } from './support/device.js';
import { failureOf, rlvrError } from './support/errors.js';
import { linearBatch } from './support/linear-rows.js';

const { host, batch } = roundedBatch(51, { vocab: 12 });

/** The same rollouts, from hidden states of bf16. */
function hiddenBatch(device: Device) {
  const { logits: _, ...rollouts } = batch;
  const shape = { tokens: batch.targets.length, vocab: 12, width: 5 };
  const { hidden, weight } = linearBatch(52, shape, { dtypes: ['bf16', 'bf16', 'f32'] });
  return { ...rollouts, hidden: device.uploadSync(hidden), weight: device.uploadSync(weight) };
}

type Job = (device: Device) => Promise<unknown> | unknown;

/** Fails every allocation of a job in turn, and returns how many there are. */
async function failEveryAllocation(job: Job): Promise<number> {
  for (let n = 1; ; n++) {
    const device = openDevice();
    emulation!.failAllocation(n);
    try {
      await job(device);
      return n - 1;
    } catch (error) {
      expect(error).toMatchObject({
        name: 'RlvrError',
        code: 'ERR_CUDA',
        message: 'cudaErrorMemoryAllocation: out of memory',
      });
    } finally {
      emulation!.failAllocation(0);
    }
    await job(device); // works again
  }
}

describe.runIf(emulation && DEVICES > 0)('out of memory', () => {
  afterAll(() => {
    expect(emulation!.misuses()).toBeUndefined();
  });

  const onDevice = (run: (logits: DeviceTensor) => unknown) => (device: Device) => run(device.uploadSync(host));

  test.each<[name: string, least: number, job: Job]>([
    ['upload', 1, (device) => device.upload(host)],
    ['uploadSync, downloadSync', 1, (device) => device.uploadSync(host).downloadSync()],
    ['conspo', 3, onDevice((logits) => conspo({ ...batch, logits }))],
    ['conspoSync in place', 2, onDevice((logits) => conspoSync({ ...batch, logits }, { gradient: 'in-place' }))],
    ['disco', 3, onDevice((logits) => disco({ ...batch, logits }))],
    [
      'grpoSync, KL',
      3,
      onDevice((logits) => grpoSync({ ...batch, logits }, { klCoef: 0.1, aggregation: 'token-mean' })),
    ],
    ['tokenLogProbs', 2, onDevice((logits) => tokenLogProbs({ ...batch, logits }, { entropy: true }))],
    [
      'forward and backward',
      4,
      onDevice(async (logits) => {
        const { scores, backward } = await forward({ ...batch, logits }, 'logLikelihood');
        return backward(scores);
      }),
    ],
    ['conspo from hidden states', 9, (device) => conspo(hiddenBatch(device))],
    ['grpoSync from hidden states, a row at a time', 9, (device) => grpoSync(hiddenBatch(device), { chunkBytes: 0 })],
    ['conspo on host arrays', 3, () => conspo(batch, { backend: 'cuda' })],
    ['conspoSync on host arrays', 3, () => conspoSync(batch, { backend: 'cuda' })],
  ])('%s: an error each time, nothing leaks, and the next call works', async (_name, least, job) => {
    await conspo(batch, { backend: 'cuda' }); // its device and pinned memory stay
    await collectUntil(() => false); // what earlier tests left
    const before = emulation!.liveAllocations();
    expect(await failEveryAllocation(job)).toBeGreaterThanOrEqual(least);
    expect(await collectUntil(() => emulation!.liveAllocations() <= before)).toBe(true);
  });

  test('what a failed loss had taken is free again at once', async () => {
    const device = openDevice();
    const logits = device.uploadSync(host);
    const before = device.allocatedBytes;
    emulation!.failAllocation(1);
    await expect(conspo({ ...batch, logits }, { gradient: 'in-place' })).rejects.toThrow('out of memory');
    expect(device.allocatedBytes).toBe(before);
    expect(() => conspoSync({ ...batch, logits }, { gradient: 'in-place' })).toThrow('out of memory');
    expect(device.allocatedBytes).toBe(before);
    emulation!.failAllocation(0);
    expect(logits.downloadSync()).toEqual(host.data);
  });
});

// Only the record of an event tells when pinned memory may be used again, and when results are there.
describe.runIf(emulation && DEVICES > 0)('a record of an event that fails', () => {
  afterAll(() => {
    expect(emulation!.misuses()).toBeUndefined();
  });

  test.each<[name: string, records: number, job: (logits: DeviceTensor, device: Device) => unknown]>([
    ['upload', 1, (logits, device) => device.upload(host, { out: logits })],
    ['downloadSync', 1, (logits) => logits.downloadSync()],
    ['conspo', 2, (logits) => conspo({ ...batch, logits })],
    ['conspoSync', 2, (logits) => conspoSync({ ...batch, logits })],
  ])('%s: an error each time, and the next call works', async (_name, records, job) => {
    const device = openDevice();
    const logits = device.uploadSync(host);
    const expected = await job(logits, device);
    for (let n = 1; n <= records; n++) {
      emulation!.failRecord(n);
      expect(await failureOf(() => job(logits, device))).toEqual(rlvrError('ERR_CUDA', /^cudaErrorUnknown: /));
      const { loss } = (await job(logits, device)) as { loss?: number };
      expect(loss).toBe((expected as { loss?: number }).loss);
    }
    emulation!.failRecord(records + 1);
    await job(logits, device); // has no more of them
    emulation!.failRecord(0);
  });
});
