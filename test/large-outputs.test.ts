import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { nativeAddon } from '../lib/backend/addon.js';
import { tokenLogProbsBackwardSync, tokenLogProbsSync } from '../lib/index.js';

const addon = nativeAddon();
const hugePages = existsSync('/sys/kernel/mm/transparent_hugepage/enabled') && existsSync('/proc/self/smaps');

/** KiB of this process's memory for which huge pages were asked for. */
function advised(): number {
  let kilobytes = 0;
  let size = 0;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    if (line.startsWith('Size:')) size = Number(line.split(/\s+/)[1]);
    if (line.startsWith('VmFlags:') && line.split(' ').includes('hg')) kilobytes += size;
  }
  return kilobytes;
}

describe.skipIf('reason' in addon)('memory for large outputs', () => {
  test('the hint changes nothing in an array, wherever it begins', () => {
    if ('reason' in addon) return;
    const array = Uint8Array.from({ length: 5 << 20 }, (_, i) => i * 7);
    for (const begin of [0, 1, 4095, (2 << 20) + 3, 5 << 20]) {
      const memory = array.subarray(begin);
      addon.preferHugePages({ memory, bytes: memory.length });
    }
    expect(array.every((value, i) => value === ((i * 7) & 255))).toBe(true);
  });

  test.runIf(hugePages)('a gradient of 40 MB asks for huge pages, one of 30 MB does not', () => {
    for (const [megabytes, asks] of [
      [40, true],
      [30, false],
    ] as const) {
      const before = advised();
      const [tokens, vocab] = [megabytes, 250_000];
      const logits = { data: new Float32Array(tokens * vocab), shape: [tokens, vocab] as [number, number] };
      const targets = new Int32Array(tokens);
      const { logSumExp } = tokenLogProbsSync({ logits, targets });
      const gradLogProbs = new Float64Array(tokens).fill(1);
      const { gradLogits } = tokenLogProbsBackwardSync({ logits, targets, logSumExp, gradLogProbs });
      expect(gradLogits.data[vocab]).toBeCloseTo(1 - 1 / vocab, 6);
      expect(gradLogits.data[vocab - 1]).toBeCloseTo(-1 / vocab, 9);
      expect(advised() - before >= 30_000).toBe(asks);
    }
  });
});
