// Peak memory of the loss with its gradient in place, in a process of its own: maxRSS is a high-water mark of the whole process.
import { expect, test } from 'vitest';
import { childJson } from './child.js';

interface Peaks {
  idle: number; // bytes: the most that the process took with the package and the addon loaded and warmed up
  resident: number; // bytes: what it took then, without the garbage of loading, whose place the logits may take
  peak: number; // bytes, after the loss
  logits: number; // bytes
}

const options = { nodeOptions: ['--expose-gc'] };

function measure(gradient: string, batch: string): string {
  return `
    const maxRss = () => process.resourceUsage().maxRSS * 1024;
    const small = {
      logits: new Float32Array(64 * 1024), targets: new Int32Array(64),
      cuSeqlens: Int32Array.of(0, 32, 64), cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0),
    };
    for (let i = 0; i < 20; i++) await rlvr.conspo(small, { backend: 'cpu' }); // so that every thread has started
    const idle = maxRss();
    for (let i = 0; i < 5; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 40)); // memory is given back by another thread
    }
    const resident = process.memoryUsage.rss();
    const [tokens, vocab] = [256, 151936];
    ${batch}
    const targets = Int32Array.from({ length: tokens }, (_, t) => (t * 7919) % vocab);
    const { loss } = await rlvr.conspo(
      { logits, targets, cuSeqlens: Int32Array.of(0, 100, 256), cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) },
      { backend: 'cpu', gradient: ${gradient} },
    );
    if (!(loss > 0)) throw new Error('no loss');
    const bytes = (logits.data ?? logits).byteLength;
    console.log(JSON.stringify({ idle, resident, peak: maxRss(), logits: bytes }));`;
}

const F32 = `
    const logits = new Float32Array(tokens * vocab);
    for (let i = 0; i < logits.length; i++) logits[i] = (i % 977) / 100;`;
const BF16 = `
    const logits = { data: new Uint16Array(tokens * vocab), shape: [tokens, vocab], dtype: 'bf16' };
    for (let i = 0; i < logits.data.length; i++) logits.data[i] = 0x3f80 + (i % 97);`;

test.each([
  ['f32', F32],
  ['bf16', BF16],
])('in place, T = 256, V = 151936, %s: the logits, the idle process and at most 5 %', async (_name, batch) => {
  const { idle, resident, peak, logits } = await childJson<Peaks>(measure("'in-place'", batch), options);
  expect(peak - idle).toBeLessThanOrEqual(1.05 * logits);
  expect(peak - resident).toBeGreaterThan(0.95 * logits); // the logits are counted
});

test('a new gradient is a second array: the measure sees it', async () => {
  const { idle, resident, peak, logits } = await childJson<Peaks>(measure("'new'", F32), options);
  expect(peak - resident).toBeGreaterThan(1.95 * logits);
  expect(peak - idle).toBeLessThanOrEqual(2.05 * logits);
});
