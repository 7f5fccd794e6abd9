// What a call asks of its stream, counted by the emulation: launches of kernels, memsets, copies and allocations. Each costs
// microseconds, which is all that the small levels take.
import { afterAll, describe, expect, test } from 'vitest';
import { type Device, type DeviceTensor, openDevice } from '../lib/cuda/index.js';
import { conspo, conspoSync, forwardSync, grpoSync, tokenLogProbsSync } from '../lib/index.js';
import { DEVICES, emulation, roundedBatch } from './support/device.js';

type Counts = ReturnType<NonNullable<typeof emulation>['operations']>;

const { host, batch } = roundedBatch(71, { vocab: 20 });
const inPlace = { gradient: 'in-place' } as const;
const skip = { onNonFinite: 'skip' } as const;

describe.runIf(emulation && DEVICES > 0)('operations on a stream', () => {
  afterAll(() => {
    expect(emulation!.misuses()).toBeUndefined();
  });

  /** What `call` asks of the stream of a device on which the same has run before. */
  async function counted(call: (logits: DeviceTensor, device: Device) => unknown, of = host): Promise<Counts> {
    const device = openDevice();
    const logits = device.uploadSync(of);
    await call(logits, device);
    device.uploadSync(of, { out: logits });
    const before = emulation!.operations();
    await call(logits, device);
    const after = emulation!.operations();
    logits.dispose();
    const names = Object.keys(before) as (keyof Counts)[];
    return Object.fromEntries(names.map((name) => [name, after[name] - before[name]])) as Counts;
  }
  const total = ({ launches, memsets, copies, allocations }: Counts) => launches + memsets + copies + allocations;

  test.each<[name: string, call: (logits: DeviceTensor) => unknown, allocations: number]>([
    ['conspo', (logits) => conspo({ ...batch, logits }, inPlace), 1],
    ['conspoSync', (logits) => conspoSync({ ...batch, logits }, inPlace), 1],
    ['conspoSync, a new gradient', (logits) => conspoSync({ ...batch, logits }).gradLogits.dispose(), 2],
    ['grpoSync, KL', (logits) => grpoSync({ ...batch, logits }, { ...inPlace, klCoef: 0.1 }), 1],
    ['tokenLogProbsSync', (logits) => tokenLogProbsSync({ ...batch, logits }, { entropy: true }), 1],
    [
      'forwardSync and backward, a call each',
      (logits) => {
        const { scores, backward } = forwardSync({ ...batch, logits }, 'logLikelihood');
        return backward(scores, inPlace);
      },
      2,
    ],
  ])('%s: one piece of memory, freed at once; no memset or copy', async (_name, call, allocations) => {
    expect(await counted(call)).toMatchObject({ allocations, frees: allocations, memsets: 0, copies: 0 });
  });

  test.each<[name: string, call: (logits: DeviceTensor) => unknown]>([
    ['conspo', (logits) => conspo({ ...batch, logits }, inPlace)],
    ['conspoSync', (logits) => conspoSync({ ...batch, logits }, inPlace)],
    ['conspoSync, non-finite rows skipped', (logits) => conspoSync({ ...batch, logits }, { ...inPlace, ...skip })],
    ['grpoSync', (logits) => grpoSync({ ...batch, logits }, inPlace)],
    [
      'grpoSync, KL and an entropy bonus',
      (logits) => grpoSync({ ...batch, logits }, { ...inPlace, klCoef: 0.1, entropyCoef: 0.1 }),
    ],
  ])('%s in place: six operations', async (_name, call) => {
    const counts = await counted(call);
    expect(counts).toMatchObject({ allocations: 1, launches: 5 }); // two of which move small arrays
    expect(total(counts)).toBe(6);
  });

  test('of more than 128 sequences: a launch for each step that has work for many blocks', async () => {
    const { host, batch } = roundedBatch(71, { vocab: 20, groups: 60 });
    expect(batch.rewards.length).toBeGreaterThan(128);
    const counts = await counted((logits) => conspoSync({ ...batch, logits }, inPlace), host);
    expect(total(counts)).toBe(10); // one of which is for metrics of old log-probs
  });
});
