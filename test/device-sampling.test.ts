// Tokens drawn from logits in device memory.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Device, openDevice } from '../lib/cuda/index.js';
import { sampleTokens, sampleTokensSync, tokenLogProbs } from '../lib/index.js';
import { expectClose } from './support/compare.js';
import { describeDevices, paddedTensor, roundedBatch } from './support/device.js';
import { DTYPES } from './support/tensors.js';

describeDevices('tokens drawn from device tensors', () => {
  let device: Device;
  beforeAll(() => {
    device = openDevice();
  });
  afterAll(() => {
    device.dispose();
  });

  test.each(DTYPES)('%s: as from the host, and as the replay has it', async (dtype) => {
    const vocab = 300;
    const { host } = roundedBatch(5, { vocab, dtype });
    const logits = paddedTensor(device, host).tensor;
    for (const [temperature, filters] of [
      [1, {}],
      [1, { topK: 7 }],
      [0.5, { topP: 0.8 }],
      [2, { minP: 0.1 }],
    ] as const) {
      const options = { temperature, ...filters, seed: 3, offset: 9, kept: true };
      const drawn = await sampleTokens({ logits }, options);
      expect(drawn).toEqual(sampleTokensSync({ logits: host }, { ...options, backend: 'cuda' }));
      const { ids: targets, logProbs, keptIds, cuKept } = drawn;
      const replay = await tokenLogProbs({ logits, targets, keptIds, cuKept }, { temperature });
      expectClose(logProbs, replay.logProbs, 1e-6);
    }
  });

  test('a row that is not finite is named', async () => {
    const { host } = roundedBatch(6, { vocab: 30, dtype: 'f32' });
    host.data[2 * 30 + 4] = Number.NaN;
    const call = sampleTokens({ logits: device.uploadSync(host) }, { seed: 1 });
    await expect(call).rejects.toMatchObject({
      code: 'ERR_NONFINITE',
      message: expect.stringMatching(/^logits: .*1 other row\(s\), the first at row 2$/),
    });
  });
});
