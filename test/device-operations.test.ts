// What a call asks of its stream, counted by the emulation: launches of kernels, memsets, copies and allocations. Each costs
// microseconds, which is all that the small levels take.
import { afterAll, describe, expect, test } from 'vitest';
import { type Device, type DeviceTensor, openDevice } from '../lib/cuda/index.js';
import { conspo, conspoSync, forwardSync, grpo, grpoSync, tokenLogProbsSync } from '../lib/index.js';
import { DEVICES, emulation, roundedBatch } from './support/device.js';

type Counts = ReturnType<NonNullable<typeof emulation>['operations']>;

const { host, batch } = roundedBatch(71, { vocab: 20 });
const inPlace = { gradient: 'in-place' } as const;

describe.runIf(emulation && DEVICES > 0)('operations on a stream', () => {
  afterAll(() => {
    expect(emulation!.misuses()).toBeUndefined();
  });

  /** What `call` asks of the stream of a device on which the same has run before. */
  async function counted(call: (logits: DeviceTensor, device: Device) => unknown): Promise<Counts> {
    const device = openDevice();
    const logits = device.uploadSync(host);
    await call(logits, device);
    device.uploadSync(host, { out: logits });
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

  test('grpo in place: seven operations, one of which reads the logits and writes their gradient', async () => {
    const counts = await counted((logits) => grpo({ ...batch, logits }, inPlace));
    expect(counts).toMatchObject({ allocations: 1, launches: 6 });
    expect(total(counts)).toBe(7);
  });

  test('conspo in place: nine operations', async () => {
    const counts = await counted((logits) => conspo({ ...batch, logits }, inPlace));
    expect(counts).toMatchObject({ allocations: 1, launches: 8 }); // two of which move small arrays
    expect(total(counts)).toBe(9);
  });
});
