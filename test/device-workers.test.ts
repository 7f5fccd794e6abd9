// Devices in worker threads, which come and go while the main thread uses its own; and the end of the process.
import { describe, test } from 'vitest';
import { builtFile, expectClean, ONCE, runChild } from './boundary/child.js';
import { DEVICES } from './support/device.js';

// `job` computes on a device, leaves its tensors behind, and gives the bits; a worker posts them.
const JOB = `
import { Worker } from 'node:worker_threads';
const source = \`
  const { createHash } = require('node:crypto');
  const loaded = Promise.all([import(${builtFile('./index.js')}), import(${builtFile('./cuda/index.js')})]);
  const batch = {
    targets: new Int32Array(8).fill(3), cuSeqlens: Int32Array.of(0, 2, 4, 6, 8), cuGroups: Int32Array.of(0, 4),
    rewards: Float32Array.of(1, 0, 0, 1),
  };
  const host = { data: Float32Array.from({ length: 8 * 500 }, (_, i) => (i * 2654435761 >>> 20) / 800), shape: [8, 500] };
  async function job(index = 0, rounds = 2) {
    const [rlvr, { openDevice }] = await loaded;
    const device = openDevice(index);
    const bits = createHash('sha256');
    for (let i = 0; i < rounds; i++) {
      const logits = await device.upload(host);
      const { loss, gradLogits } = await rlvr.conspo({ ...batch, logits });
      bits.update(gradLogits.downloadSync()).update(String(loss));
      bits.update(await (await rlvr.grpo({ ...batch, logits }, { gradient: 'in-place' })).gradLogits.download());
    }
    return bits.digest('hex');
  }
\`;
const job = new Function('require', source + '; return job;');
import { createRequire } from 'node:module';
const here = job(createRequire(import.meta.url));
const start = (run) => new Worker(source + run, { eval: true, execArgv: [] });
const POST = ';job(0).then((bits) => require("node:worker_threads").parentPort.postMessage(bits));';
const ENDLESS = ';require("node:worker_threads").parentPort.postMessage("begun"); job(0, 1e9);';
${ONCE}
const { emulation } = (await import(${builtFile('./backend/addon.js')})).nativeAddon().cuda;
const fail = (what) => { throw new Error(what); };
const check = () => emulation?.misuses() && fail('misuse: ' + emulation.misuses());
`;

describe.runIf(DEVICES > 0)('devices in worker threads', () => {
  test('workers that end by themselves, all at once and one after the other, while main goes on', async () => {
    const child = await runChild(`${JOB}
      const bits = await here();
      for (const count of [3, 1, 1]) {
        const workers = Array.from({ length: count }, () => start(POST));
        const answers = workers.map((worker) => once(worker, 'message'));
        const exits = workers.map((worker) => once(worker, 'exit'));
        if ((await here()) !== bits) fail('main: other bits');
        for (const answer of await Promise.all(answers)) if (answer !== bits) fail('worker: other bits');
        for (const code of await Promise.all(exits)) if (code !== 0) fail('worker ended with ' + code);
        if ((await here()) !== bits) fail('main, afterwards: other bits');
      }
      check();`);
    expectClean(child);
  });

  test('a worker gives all its memory back when it ends', async () => {
    const child = await runChild(`${JOB}
      for (let i = 0; i < 4; i++) {
        await once(start(POST), 'exit');
        if (emulation?.liveAllocations()) fail(emulation.liveAllocations() + ' allocations are left');
      }
      await here();
      check();`);
    expectClean(child);
  });

  test('workers terminated in the middle', async () => {
    const child = await runChild(`${JOB}
      const bits = await here();
      for (let i = 0; i < 6; i++) {
        const worker = start(ENDLESS);
        await once(worker, 'message');
        await new Promise((resolve) => setTimeout(resolve, 15 * i));
        await Promise.all([worker.terminate(), here()]);
        if ((await here()) !== bits) fail('main: other bits');
      }
      check();`);
    expectClean(child);
  });

  test.each([
    ['process.exit with losses in flight', 'here(0, 1e9); setTimeout(() => process.exit(7), 50);', 7],
    ['nobody waits: the losses end, then the process', 'here(0, 3);', 0],
    ['tensors that are never disposed of', 'await here(); globalThis.kept = await here();', 0],
  ])('%s', async (_name, source, code) => {
    expectClean(await runChild(`${JOB} ${source}`), code);
  });
});
