// Sampling replay on logits in device memory.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TOKEN_TOLERANCE } from '../bench/problems/tolerances.js';
import { type Device, type DeviceTensor, openDevice } from '../lib/cuda/index.js';
import { type Batch, conspo, grpo } from '../lib/index.js';
import { expectClose, expectCloseNumber } from './support/compare.js';
import { describeDevices, paddedTensor, roundedBatch, writtenPadding } from './support/device.js';
import { randomKept } from './support/kept.js';
import { DTYPES, numbers } from './support/tensors.js';

type Choice = { gradient?: 'in-place'; backend?: 'reference' };

/** Losses as they are without replay, under which both take two. */
const inTwoPasses = (batch: Batch, options: Choice = {}) => conspo(batch, { tau: 1, ...options });
const inOnePass = (batch: Batch, options: Choice = {}) => grpo(batch, options);

describeDevices('sampling replay on device tensors', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });

  test.each(DTYPES)(
    '%s: as the reference has it, in place and out, and nothing between rows is written',
    async (dtype) => {
      const vocab = 45;
      const { host, batch } = roundedBatch(3, { vocab, dtype });
      const kept = randomKept(3, batch.targets, vocab);
      for (const loss of [inTwoPasses, inOnePass]) {
        const expected = await loss({ ...batch, ...kept }, { backend: 'reference' });
        const padded = paddedTensor(device, host);
        const logits = padded.tensor;
        const result = await loss({ ...batch, ...kept, logits });
        expectCloseNumber(result.loss, expected.loss, 1e-5, 1);
        const gradient = (result.gradLogits as DeviceTensor).downloadSync();
        expectClose(numbers(gradient, dtype), expected.gradLogits as Float32Array, 2 * TOKEN_TOLERANCE.gradient[dtype]);
        const inPlace = await loss({ ...batch, ...kept, logits }, { gradient: 'in-place' });
        expect(inPlace.gradLogits).toBe(logits);
        expect(logits.downloadSync()).toEqual(gradient);
        expect(writtenPadding(padded)).toBe(0);
      }
    },
  );

  test('a row that is not finite: the error names it, and nothing is written', async () => {
    const { host, batch } = roundedBatch(4, { vocab: 30 });
    batch.mask.fill(1);
    const kept = randomKept(4, batch.targets, 30);
    host.data[2 * 30 + kept.keptIds[kept.cuKept[2]]] = Number.NaN;
    const logits = device.uploadSync(host);
    const before = logits.downloadSync();
    const call = grpo({ ...batch, ...kept, logits }, { gradient: 'in-place' });
    await expect(call).rejects.toMatchObject({
      code: 'ERR_NONFINITE',
      message: expect.stringMatching(/^logits: .*1 non-finite row\(s\), the first at row 2$/),
    });
    expect(logits.downloadSync()).toEqual(before);
  });
});
