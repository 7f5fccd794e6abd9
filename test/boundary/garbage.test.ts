// Garbage collection: arrays stay while an op needs them, and go when it is done.
import { expect, test } from 'vitest';
import { childJson } from './child.js';

const gc = { nodeOptions: ['--expose-gc'] };

const BATCH = `
function makeBatch(tokens, vocab) {
  const logits = new Float32Array(tokens * vocab);
  for (let i = 0; i < logits.length; i++) logits[i] = ((i * 2654435761) >>> 20) / 800;
  return {
    logits, targets: new Int32Array(tokens).fill(3),
    cuSeqlens: Int32Array.of(0, tokens / 2, tokens), cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0),
  };
}
const turn = () => new Promise((resolve) => setImmediate(resolve));
async function collect() { for (let i = 0; i < 4; i++) { gc(); await turn(); } }
`;

test.each(['cpu', 'reference'])('%s: every array of an op is collected after it', async (backend) => {
  const { made, collected } = await childJson<{ made: number; collected: number }>(
    `${BATCH}
    let [made, collected] = [0, 0];
    const registry = new FinalizationRegistry(() => collected++);
    const watch = (value) => {
      for (const array of Object.values(value)) if (ArrayBuffer.isView(array)) { registry.register(array.buffer); made++; }
    };
    async function run() {
      const batch = makeBatch(8, 500);
      watch(batch);
      watch(await rlvr.conspo(batch, { backend: '${backend}', logProbs: true, entropy: true }));
      watch(rlvr.conspoSync(batch, { backend: '${backend}' }));
      await rlvr.conspo(batch, { backend: '${backend}', signal: AbortSignal.timeout(1e6) });
      const { backward, ...result } = await rlvr.forward(batch, 'logLikelihood', { backend: '${backend}' });
      watch(result);
      watch(await backward(new Float64Array(2).fill(1)));
      await rlvr.conspo({ ...batch, rewards: Float32Array.of(1, NaN) }, { backend: '${backend}' }).catch(() => {});
      batch.logits.fill(NaN);
      await rlvr.conspo(batch, { backend: '${backend}' }).catch(() => {});
    }
    await run();
    for (let i = 0; i < 50 && collected < made; i++) await collect();
    console.log(JSON.stringify({ made, collected }));
    process.exit();`,
    gc,
  );
  expect(made).toBeGreaterThan(10);
  expect(collected).toBe(made);
});

test.each(['cpu', 'reference'])('%s: memory is flat over 30,000 ops', async (backend) => {
  const { growth } = await childJson<{ growth: Record<string, number> }>(
    `${BATCH}
    const batch = makeBatch(8, 100);
    const signal = new AbortController().signal; // one for all: listeners left behind would add up
    const options = { backend: '${backend}', signal };
    async function rounds(n) {
      for (let i = 0; i < n; i++) {
        await rlvr.conspo(batch, options);
        rlvr.grpoSync(batch, { backend: '${backend}' });
        await rlvr.conspo({ ...batch, targets: batch.cuSeqlens }, options).catch(() => {});
        await Promise.all([rlvr.tokenLogProbs(batch, options), rlvr.tokenLogProbs(batch, options)]);
      }
      await collect();
      return process.memoryUsage();
    }
    await rounds(500);
    const usage = [];
    while (usage.length < 6) usage.push(await rounds(1000));
    const lowest = (key, from) => Math.min(...usage.slice(from, from + 3).map((sample) => sample[key]));
    const growth = Object.fromEntries(Object.keys(usage[0]).map((key) => [key, lowest(key, 3) - lowest(key, 0)]));
    console.log(JSON.stringify({ growth }));`,
    gc,
  );
  // The growth over 15,000 ops, lowest of three to lowest of three: compiled code and its feedback come and go by 300 kB,
  // a leak only grows; resident memory by 20 MB, as V8 takes what it is given. With gradients of 3 kB and more those ops made 40 MB of array buffers.
  expect(growth.heapUsed).toBeLessThan(750_000);
  expect(growth.external).toBeLessThan(150_000);
  expect(growth.arrayBuffers).toBeLessThan(150_000);
  expect(growth.rss).toBeLessThan(45_000_000);
});

test('arrays that only a running op holds stay where they are', async () => {
  const { wrong, runs } = await childJson<{ wrong: number; runs: number }>(
    `${BATCH}
    const expected = JSON.stringify(rlvr.tokenLogProbsSync(makeBatch(64, 20000), { backend: 'cpu' }));
    let wrong = 0;
    const runs = 30;
    for (let i = 0; i < runs; i++) {
      // Nothing but the promise refers to the inputs.
      const pending = Array.from({ length: 6 }, () => rlvr.tokenLogProbs(makeBatch(64, 20000), { backend: 'cpu' }));
      let litter = [];
      for (let k = 0; k < 4; k++) {
        gc();
        litter = Array.from({ length: 8 }, () => new Float32Array(64 * 20000).fill(NaN));
        await turn();
      }
      gc();
      for (const result of await Promise.all(pending)) if (JSON.stringify(result) !== expected) wrong++;
    }
    console.log(JSON.stringify({ wrong, runs }));`,
    gc,
  );
  expect(runs).toBe(30);
  expect(wrong).toBe(0);
});
