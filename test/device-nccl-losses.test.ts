// Losses whose ranks are connected by NCCL: as on one rank, and gradients of hidden states that stay on the devices. On the emulated CUDA,
// with the NCCL of the tests.
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Device, DeviceTensor } from '../lib/cuda/index.js';
import { openDevice } from '../lib/cuda/index.js';
import { conspo, conspoSync, type DType, forward } from '../lib/index.js';
import type { NcclCommunicator } from '../lib/nccl/index.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { emulation } from './support/device.js';
import { linearBatch } from './support/linear-rows.js';
import { fullBatch } from './support/named-losses.js';
import { fakeNccl, HAS_FAKE, overNccl, settledOverNccl } from './support/nccl.js';
import { columnsOf, cutsFor, joined, joinedColumns, onRanks, sequencesOf, withIds } from './support/ranks.js';
import { hostTensor, numbers } from './support/tensors.js';

const [VOCAB, WIDTH] = [37, 6];
const CUTS: Record<number, number[]> = { 2: [0, 13, 37], 3: [0, 1, 30, 37] };
const OPTIONS = { tau: 0.5, margin: 0.1 };

const valuesOf = (tensor: DeviceTensor) => Array.from(numbers(tensor.downloadSync(), tensor.dtype));
const reasons = (settled: PromiseSettledResult<unknown>[]) =>
  settled.map((each) => (each.status === 'rejected' ? `${each.reason.code} ${each.reason.message}` : 'well'));

/** A batch of hidden states, and the layer with the rows that a rank of so many has. */
function layerBatch(seed: number, { dtype = 'f32' as DType, scale = 3 } = {}) {
  const { logits: _logits, targets, ...rollouts } = fullBatch(seed, { vocab: VOCAB });
  const shape = { tokens: targets.length, vocab: VOCAB, width: WIDTH };
  const { hidden, weight } = linearBatch(seed, shape, { dtypes: [dtype, dtype, dtype], scale });
  const on = (device: Device, from = 0, to = VOCAB) => ({
    ...rollouts,
    targets,
    hidden: device.uploadSync(hidden),
    weight: device.uploadSync({
      ...weight,
      data: weight.data.slice(from * WIDTH, to * WIDTH),
      shape: [to - from, WIDTH] as const,
    }),
  });
  return { tokens: targets.length, on };
}

describe.runIf(HAS_FAKE)('losses over NCCL', () => {
  let fake: ReturnType<typeof fakeNccl>;
  let options: { library: string; timeout?: number };
  beforeAll(() => {
    fake = fakeNccl();
    options = { library: fake.library };
  });
  afterAll(async () => {
    expect(emulation!.misuses()).toBeUndefined();
    await vi.waitFor(() => expect(emulation!.ncclLive(fake.library)).toBe(0)); // aborts are on threads of their own
    fake.remove();
  });

  /** A loss of a rank's columns of the layer. */
  function ofColumns(comm: NcclCommunicator, layer: ReturnType<typeof layerBatch>, more: object) {
    const [start, end] = CUTS[comm.size].slice(comm.rank);
    return conspo(layer.on(comm.device, start, end), { ...OPTIONS, parallel: { vocab: { comm, start } }, ...more });
  }

  test('different sequences, one rank of three without any', async () => {
    const batch = fullBatch(41, { vocab: VOCAB });
    const whole = await conspo(withIds({ ...batch, logits: columnsOf(batch.logits, VOCAB, 0, VOCAB) }), OPTIONS);
    const cuts = cutsFor(batch.rewards.length, 3);
    const parts = await overNccl(3, options, async (comm) => {
      const { logits, ...part } = sequencesOf(batch, ...cuts[comm.rank]);
      using tensor = comm.device.uploadSync(hostTensor(logits, [part.targets.length, VOCAB], 'f32'));
      const result = await conspo({ ...part, logits: tensor }, { ...OPTIONS, parallel: { data: comm } });
      return { ...result, gradient: valuesOf(result.gradLogits) };
    });
    for (const part of parts) expectCloseNumber(part.loss, whole.loss, 2e-6, 1e-2);
    expectClose(joined(parts.map(({ scores }) => scores)), whole.scores, 2e-6);
    expectClose(joined(parts.map(({ gradient }) => gradient)), joinedColumns([whole.gradLogits]), 2e-6);
  });

  test('different columns of logits', async () => {
    const batch = fullBatch(42, { vocab: VOCAB });
    const whole = await conspo({ ...batch, logits: columnsOf(batch.logits, VOCAB, 0, VOCAB) }, OPTIONS);
    const parts = await overNccl(3, options, async (comm) => {
      const [start, end] = CUTS[3].slice(comm.rank);
      using logits = comm.device.uploadSync(columnsOf(batch.logits, VOCAB, start, end));
      const { loss, gradLogits } = await conspo(
        { ...batch, logits },
        { ...OPTIONS, parallel: { vocab: { comm, start } } },
      );
      return { loss, gradLogits: { data: gradLogits.downloadSync(), shape: gradLogits.shape } };
    });
    for (const part of parts) expectCloseNumber(part.loss, whole.loss, 2e-6, 1e-2);
    expectClose(joinedColumns(parts.map(({ gradLogits }) => gradLogits)), joinedColumns([whole.gradLogits]), 2e-6);
  });

  test.each([
    ['f32', 'new', 2],
    ['f32', 'accumulate', 3],
    ['bf16', 'new', 3],
    ['bf16', 'accumulate', 2],
    ['f16', 'out', 2],
  ] as const)(
    'the gradient of hidden states is added up on the devices: %s, %s, %d ranks',
    async (dtype, place, size) => {
      const layer = layerBatch(43, { dtype });
      using alone = openDevice(0);
      const into = (device: Device) => {
        if (place === 'new') return { gradHidden: 'new' as const };
        const start = Float64Array.from({ length: layer.tokens * WIDTH }, (_, i) => i % 3);
        const tensor = device.uploadSync(hostTensor(start, [layer.tokens, WIDTH], dtype));
        return { gradHidden: place === 'out' ? { out: tensor } : { accumulate: tensor } };
      };
      const whole = conspoSync(layer.on(alone), { ...OPTIONS, ...(into(alone) as object) });
      const expected = valuesOf(whole.gradHidden as DeviceTensor);
      const parts = await overNccl(size, options, async (comm) => {
        const more = into(comm.device);
        const before = comm.device.allocatedBytes;
        const result = await ofColumns(comm, layer, more);
        const grown = comm.device.allocatedBytes - before;
        expect(grown).toBeLessThan(8 * layer.tokens * WIDTH + 8 * VOCAB * WIDTH + 4096); // inputs and gradients: no part is left
        return { loss: result.loss, gradHidden: valuesOf(result.gradHidden as DeviceTensor) };
      });
      const tolerance = { f32: 1e-5, bf16: 1e-2, f16: 2e-3 }[dtype];
      for (const part of parts) {
        expectCloseNumber(part.loss, whole.loss, dtype === 'f32' ? 1e-5 : 1e-2, 1e-2);
        expectClose(part.gradHidden, expected, tolerance);
        expect(part.gradHidden).toEqual(parts[0].gradHidden);
      }
    },
  );

  test('by hand: forward, and its way back', async () => {
    const layer = layerBatch(44);
    using alone = openDevice(0);
    const whole = await forward(layer.on(alone), 'logLikelihood');
    const slopes = Float64Array.from(whole.scores, (_, i) => Math.sin(i + 1));
    const expected = valuesOf((await whole.backward(slopes)).gradHidden);
    const parts = await overNccl(2, options, async (comm) => {
      const [start, end] = CUTS[2].slice(comm.rank);
      const batch = layer.on(comm.device, start, end);
      const { backward } = await forward(batch, 'logLikelihood', { parallel: { vocab: { comm, start } } });
      return valuesOf((await backward(slopes)).gradHidden);
    });
    for (const part of parts) expectClose(part, expected, 1e-5);
  });

  test('a sum that is not finite is an error on every rank', async () => {
    const layer = layerBatch(45, { dtype: 'f16' });
    const got = await settledOverNccl(2, options, (comm) => {
      const full = new Float64Array(layer.tokens * WIDTH).fill(65504);
      const accumulate = comm.device.uploadSync(hostTensor(full, [layer.tokens, WIDTH], 'f16'));
      return ofColumns(comm, layer, { normalizer: 1e-5, gradHidden: { accumulate } });
    });
    for (const reason of reasons(got))
      expect(reason).toMatch(/^ERR_NONFINITE gradHidden: expected finite sums over all ranks, got others at row \d+$/);
  });

  test('a rank that fails before the sum lets none wait for it', async () => {
    const layer = layerBatch(46);
    const got = await settledOverNccl(3, options, async (comm) => {
      const controller = new AbortController();
      const gradHidden = { out: comm.device.empty([layer.tokens, WIDTH]) };
      const ended = ofColumns(comm, layer, { gradHidden, signal: controller.signal });
      if (comm.rank === 1) setTimeout(() => controller.abort());
      return ended;
    });
    const [first, own, last] = reasons(got);
    expect(own).toBe('ERR_ABORTED the operation was aborted');
    expect([first, last]).toEqual(Array(2).fill('ERR_RANK rank 1 failed: the operation was aborted'));
  });

  test('a tensor that goes while the loss is computed', async () => {
    const layer = layerBatch(47);
    const got = await settledOverNccl(2, options, async (comm) => {
      const out = comm.device.empty([layer.tokens, WIDTH]);
      const allGather = comm.allGather.bind(comm);
      let calls = 0;
      comm.allGather = async (values) => {
        const all = await allGather(values);
        if (comm.rank === 0 && ++calls === 2) out.dispose(); // columns, rows; next comes the sum
        return all;
      };
      return ofColumns(comm, layer, { gradHidden: { out } });
    });
    const message = 'gradHidden: expected a DeviceTensor with its memory, got a disposed one';
    expect(reasons(got)).toEqual([`ERR_DISPOSED ${message}`, `ERR_RANK rank 0 failed: ${message}`]);
  });

  test('an NCCL that fails during the sum', async () => {
    const layer = layerBatch(48);
    process.env.FAKE_NCCL_FAIL = 'error 0 7'; // two calls each for columns, rows and the agreement
    const got = await settledOverNccl(2, options, (comm) => ofColumns(comm, layer, {})).finally(() => {
      delete process.env.FAKE_NCCL_FAIL;
    });
    for (const [rank, reason] of reasons(got).entries())
      expect(reason).toMatch(
        new RegExp(
          `^ERR_RANK ${rank === 0 ? 'sum' : '(sum|gather)'} on rank ${rank}: NCCL reported remote process exited`,
        ),
      );
  });

  test('ranks that want their gradients in different places', async () => {
    const layer = layerBatch(49);
    const got = await settledOverNccl(2, options, (comm) =>
      ofColumns(comm, layer, { gradHidden: comm.rank === 0 ? 'new' : 'none' }),
    );
    const [first] = reasons(got);
    expect(first).toMatch(
      /^ERR_RANK gradHidden: expected tensors on all ranks' devices, .* got another place on rank 1$/,
    );
  });

  test('other communicators, and tensors of other devices, are refused', async () => {
    const layer = layerBatch(50);
    using device = openDevice(0);
    const refused = await onRanks(1, async (comm) => {
      const call = conspo(layer.on(device), { ...OPTIONS, parallel: { vocab: { comm, start: 0 } } });
      return call.catch((error) => `${error.code} ${error.message}`);
    });
    const expected = "'none' or host memory with parallel.vocab, or an NCCL communicator (openNccl) as its comm";
    expect(refused).toEqual([`ERR_RANGE gradHidden: expected ${expected}, got a DeviceTensor`]);
    const got = await settledOverNccl(1, options, (comm) =>
      conspo(layer.on(device), { ...OPTIONS, parallel: { vocab: { comm, start: 0 } } }),
    );
    expect(reasons(got)).toEqual([
      'ERR_BACKEND gradHidden: expected a tensor of the device of parallel.vocab.comm, got one of another Device',
    ]);
  });
});
