// The CUDA backend where there is one: a device, or its emulation (scripts/test-asan.mjs --cuda-emulated).
import { describe, expect, test } from 'vitest';
import { backends, conspoSync, tokenLogProbsSync } from '../lib/index.js';
import { BACKENDS } from './support/backends.js';
import { randomBatch } from './support/random.js';

const info = backends().find(({ name }) => name === 'cuda');

test('backends() names the device, or the reason there is none', () => {
  if (info?.available) {
    expect(info.device).toMatch(/./);
    expect(info.computeCapability).toMatch(/^\d+\.\d+$/);
    expect(info.memory).toBeGreaterThan(0);
    expect(info.driver).toBeGreaterThanOrEqual(info.runtime!);
  } else {
    expect(info?.reason).toMatch(/nvcc|driver|device|addon|compute capability/);
  }
});

describe.runIf(BACKENDS.includes('cuda'))('cuda on host arrays', () => {
  test('agrees with the reference where rows are not aligned to vectors', () => {
    for (const vocab of [1, 3, 5, 127, 129, 2055]) {
      const batch = randomBatch(vocab, { vocab, groups: 2 });
      const expected = tokenLogProbsSync(batch, { backend: 'reference' });
      const { logProbs } = tokenLogProbsSync(batch, { backend: 'cuda' });
      logProbs.forEach((logProb, t) => {
        expect(Math.abs(logProb - expected.logProbs[t])).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(logProb)));
      });
    }
  });

  test('a tile boundary inside the row: every tile of the gradient is written', () => {
    const vocab = 2 * 8192 + 3;
    const logits = Float32Array.from({ length: 2 * vocab }, (_, i) => Math.sin(i));
    const batch = {
      logits,
      targets: Int32Array.of(8191, 16386),
      cuSeqlens: Int32Array.of(0, 1, 2),
      cuGroups: Int32Array.of(0, 2),
      rewards: Float32Array.of(1, 0),
    };
    const actual = conspoSync(batch, { backend: 'cuda' }).gradLogits;
    const expected = conspoSync(batch, { backend: 'reference' }).gradLogits;
    const norm = Math.hypot(...expected.subarray(0, 1000));
    expect(norm).toBeGreaterThan(0);
    actual.forEach((g, i) => {
      expect(Math.abs(g - expected[i])).toBeLessThanOrEqual(1e-5 * Math.abs(expected[i]) + 1e-9);
    });
  });

  test('the same bits on every run', () => {
    const batch = randomBatch(3, { vocab: 300, groups: 5 });
    expect(conspoSync(batch, { backend: 'cuda' })).toEqual(conspoSync(batch, { backend: 'cuda' }));
  });
});
