// Worker threads, process exit and two copies of the addon: environments come and go, and the process ends cleanly.
import { describe, expect, test } from 'vitest';
import { builtFile, expectClean, ONCE, runChild } from './child.js';

// `job` runs losses on both levels and returns their bits; a worker runs it and posts them.
const JOB = `
import { Worker } from 'node:worker_threads';
import { createHash } from 'node:crypto';
const source = \`
  const { parentPort, workerData } = require('node:worker_threads');
  const { createHash } = require('node:crypto');
  import(${builtFile()}).then(async (rlvr) => {
    const batch = (tokens, vocab) => {
      const logits = new Float32Array(tokens * vocab);
      for (let i = 0; i < logits.length; i++) logits[i] = ((i * 2654435761) >>> 20) / 800;
      return {
        logits, targets: new Int32Array(tokens).fill(3),
        cuSeqlens: Int32Array.from({ length: 9 }, (_, i) => Math.floor((i * tokens) / 8)),
        cuGroups: Int32Array.of(0, 4, 8), rewards: Float32Array.of(1, 0, 0, 1, 0, 1, 1, 0),
      };
    };
    const job = async (tokens = 64, vocab = 5000) => {
      const { loss, gradLogits } = await rlvr.conspo(batch(tokens, vocab), { backend: 'cpu' });
      return createHash('sha256').update(gradLogits).digest('hex') + loss;
    };
    await run(rlvr, job, batch, parentPort, workerData);
  });
\`;
function start(run, workerData) {
  return new Worker(source + '\\nconst run = ' + run, { eval: true, workerData, execArgv: [] });
}
${ONCE}
const POST = String(async (rlvr, job, batch, port, data) => port.postMessage([await job(), await job()].join()));
const LONG = String(async (rlvr, job, batch, port) => { // in the middle of a long op
  const slow = batch(1500, 20000);
  await job();
  port.postMessage('begun');
  await rlvr.conspo(slow, { backend: 'cpu', entropy: true, gradient: 'in-place' });
});
`;

describe('worker threads', () => {
  test('main and several workers, all at once: the same bits', async () => {
    const child = await runChild(`${JOB}
      const workers = Array.from({ length: 4 }, () => start(POST));
      const answers = await Promise.all(workers.map((worker) => once(worker, 'message')));
      const own = await rlvr.conspo({
        logProbs: Float64Array.of(-1, -2), cuSeqlens: Int32Array.of(0, 1, 2), cuGroups: Int32Array.of(0, 2),
        rewards: Float32Array.of(1, 0) }, { backend: 'cpu' });
      if (!(own.loss > 0)) throw new Error('no loss');
      const bits = new Set(answers.flatMap((answer) => answer.split(',')));
      if (bits.size !== 1) throw new Error('not the same bits: ' + [...bits]);`);
    expectClean(child);
  });

  test('in workers only, one after the other, each terminated', async () => {
    const child = await runChild(`${JOB}
      for (let i = 0; i < 8; i++) {
        const worker = start(POST);
        await once(worker, 'message');
        await worker.terminate();
      }`);
    expectClean(child);
  });

  test('workers that end by themselves, before and after main has used the addon', async () => {
    const child = await runChild(`${JOB}
      for (let i = 0; i < 3; i++) {
        const worker = start(POST);
        worker.on('message', () => {});
        if ((await once(worker, 'exit')) !== 0) throw new Error('worker failed');
        rlvr.sequenceLogProbsSync({ logProbs: new Float64Array(100000), cuSeqlens: Int32Array.of(0, 50000, 100000) }, { backend: 'cpu' });
      }`);
    expectClean(child);
  });

  test('terminated in the middle of an op, while another worker goes on', async () => {
    const child = await runChild(`${JOB}
      for (let i = 0; i < 3; i++) {
        const [victim, other] = [start(LONG), start(POST)];
        const answer = once(other, 'message');
        await once(victim, 'message');
        await new Promise((resolve) => setTimeout(resolve, 10 + 30 * i));
        await victim.terminate();
        const bits = await answer;
        if (bits.split(',')[0] !== bits.split(',')[1]) throw new Error('other bits');
        await other.terminate();
      }`);
    expectClean(child);
  });

  test('terminated while it loads', async () => {
    const child = await runChild(`${JOB}
      for (let i = 0; i < 12; i++) {
        const worker = start(POST);
        await once(worker, 'online');
        await new Promise((resolve) => setTimeout(resolve, 4 * i));
        await worker.terminate();
      }`);
    expectClean(child);
  });
});

// What runs at the end of the process, such as the CUDA runtime's handlers, must still be there.
test.runIf(process.platform === 'linux')('the addon stays loaded when the only worker that used it ends', async () => {
  const child = await runChild(`${JOB}
    import { readFileSync } from 'node:fs';
    const loaded = () => /[^ ]+\\.node$/m.test(readFileSync('/proc/self/maps', 'utf8'));
    const before = loaded();
    const worker = start(POST);
    const exit = once(worker, 'exit');
    await once(worker, 'message');
    await exit;
    console.log(before, loaded());`);
  expectClean(child);
  expect(child.stdout).toBe('false true\n');
});

const SLOW = `
const [tokens, vocab] = [2000, 30000];
const slow = {
  logits: new Float32Array(tokens * vocab).fill(1), targets: new Int32Array(tokens),
  cuSeqlens: Int32Array.of(0, 1000, tokens), cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0),
};
const begin = (backend) => rlvr.conspo(slow, { backend, entropy: true, gradient: 'in-place' });
`;

describe.each(['cpu', 'reference'])('the end of a process with ops on %s in flight', (backend) => {
  test('process.exit', async () => {
    const child = await runChild(`${SLOW}
      for (let i = 0; i < 3; i++) begin('${backend}');
      setTimeout(() => process.exit(7), 20);`);
    expectClean(child, 7);
    expect(child.milliseconds).toBeLessThan(20_000);
  });

  test('an uncaught error', async () => {
    const child = await runChild(`${SLOW}
      begin('${backend}');
      setTimeout(() => { throw new Error('on purpose'); }, 20);`);
    expect([child.code, child.signal]).toEqual([1, null]);
    expect(child.stderr).toContain('on purpose');
  });

  test('nobody waits: the op ends, then the process', async () => {
    const child = await runChild(`${SLOW}
      slow.logits.fill(1);
      rlvr.tokenLogProbs({ logits: slow.logits.subarray(0, vocab), targets: Int32Array.of(0) }, { backend: '${backend}' })
        .then(({ logProbs }) => console.log(logProbs[0].toFixed(5)));`);
    expectClean(child);
    expect(child.stdout).toBe(`${(-Math.log(30000)).toFixed(5)}\n`);
  });

  test('nothing keeps the process alive afterwards', async () => {
    const child = await runChild(
      `await rlvr.sequenceLogProbs({ logProbs: new Float64Array(1 << 20), cuSeqlens: Int32Array.from({ length: 1025 }, (_, i) => i << 10) }, { backend: '${backend}' });
      console.log('done');`,
    );
    expectClean(child);
    expect(child.stdout).toBe('done\n');
  });
});

// Windows has no signals: there Node ends the process with a code instead.
test.skipIf(process.platform === 'win32')('a signal ends the process in the middle of an op', async () => {
  const child = await runChild(`${SLOW}
    begin('cpu');
    setTimeout(() => process.kill(process.pid, 'SIGTERM'), 20);`);
  expect([child.code, child.signal]).toEqual([null, 'SIGTERM']);
});
