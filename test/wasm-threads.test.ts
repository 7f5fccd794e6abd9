// Threads of the wasm backend: the same bits for every number of them, and right results where one does not start, fails, or is silent.
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Random } from '../bench/problems/random.js';
import { builtFile, childJson, expectClean, runChild } from './boundary/child.js';
import { BACKENDS } from './support/backends.js';
import { rlvrError } from './support/errors.js';

const backend = 'wasm';
const hasWasm = BACKENDS.includes('wasm');

/** The package anew, with so many threads. */
async function load(threads: number) {
  vi.stubEnv('RLVR_THREADS', String(threads));
  vi.resetModules();
  const rlvr = await import('../lib/index.js');
  const { blocksTaken } = await import('../lib/backend/wasm-threads.js');
  return { ...rlvr, blocksTaken };
}
type Package = Awaited<ReturnType<typeof load>>;

afterEach(() => {
  vi.unstubAllEnvs();
  vi.doUnmock('node:worker_threads');
});

const VOCAB = 16_411; // a block holds 15 rows
const TOKENS = 140; // 10 blocks

const random = new Random(5);
const batch = {
  logits: Float32Array.from({ length: TOKENS * VOCAB }, () => 3 * random.normal()),
  targets: Int32Array.from({ length: TOKENS }, () => Math.floor(random.uniform() * VOCAB)),
  mask: Uint8Array.from({ length: TOKENS }, (_, t) => (t % 7 === 5 ? 0 : 1)),
  cuSeqlens: Int32Array.of(0, 3, 3, 60, 61, 110, 110, 139, 140),
  cuGroups: Int32Array.of(0, 4, 8),
  rewards: Float32Array.of(1, 0, 0, 1, 1, 0, 1, 0),
  oldLogProbs: Float64Array.from({ length: TOKENS }, () => -10 + random.normal()),
  refLogProbs: Float64Array.from({ length: TOKENS }, () => -10 + random.normal()),
};

/** Calls until other threads have taken blocks of one, or often enough where there are none. */
async function warmUp({ tokenLogProbs, blocksTaken }: Package): Promise<void> {
  for (let k = 0; k < 200 && blocksTaken() === 0; k++) await tokenLogProbs(batch, { backend });
}

/** Kernels of rows, in all their forms. */
async function results(rlvr: Package) {
  const options = { backend, entropy: true } as const;
  const keptIds = Int32Array.from({ length: 2 * TOKENS }, (_, k) => batch.targets[k >> 1] + (k % 2));
  const cuKept = Int32Array.from({ length: TOKENS + 1 }, (_, t) => 2 * t);
  const bf16 = {
    data: Uint16Array.from(batch.logits, (_, i) => 0x3f00 + (i % 509)),
    shape: [TOKENS, VOCAB],
    dtype: 'bf16',
  } as const;
  const memory = rlvr.wasmMemory(4 * batch.logits.length + 64);
  const there = memory.allocate('Float32Array', batch.logits.length);
  there.set(batch.logits);
  return {
    forward: rlvr.tokenLogProbsSync(batch, options),
    awaited: await rlvr.tokenLogProbs(batch, options),
    replay: rlvr.tokenLogProbsSync({ ...batch, keptIds, cuKept }, options),
    terms: rlvr.grpoSync(batch, { ...options, klCoef: 0.1 }),
    twoPasses: rlvr.grpoSync(
      { ...batch, logits: batch.logits.slice() },
      { ...options, entropyCoef: 0.1, gradient: 'in-place' },
    ),
    inPlace: await rlvr.conspo({ ...batch, logits: there }, { ...options, gradient: 'in-place' }),
    bf16: await rlvr.conspo({ ...batch, logits: bf16 }, options),
    drawn: rlvr.sampleTokensSync(
      { logits: batch.logits, vocab: VOCAB },
      { backend, topK: 50, topP: 0.9, kept: true, seed: 3 },
    ),
    together: await Promise.all([2, 3].map((tau) => rlvr.conspo(batch, { ...options, tau }))),
  };
}

describe.runIf(hasWasm)('threads', () => {
  test('the same bits for 1, 2 and 5', async () => {
    const one = await load(1);
    await one.tokenLogProbs(batch, { backend });
    const expected = await results(one);
    expect(one.blocksTaken()).toBe(0);
    for (const threads of [2, 5]) {
      const rlvr = await load(threads);
      expect(rlvr.backends().find(({ name }) => name === backend)).toMatchObject({ threads });
      await warmUp(rlvr);
      const before = rlvr.blocksTaken();
      expect(await results(rlvr)).toEqual(expected);
      expect(rlvr.blocksTaken()).toBeGreaterThan(before + 9); // of each kind some
    }
  });

  test('the first bad row is named, whoever finds it', async () => {
    const rlvr = await load(3);
    await warmUp(rlvr);
    const logits = batch.logits.slice();
    for (const row of [139, 62, 40, 120]) logits[row * VOCAB + 5] = NaN;
    const error = rlvrError('ERR_NONFINITE', /got 3 non-finite row\(s\), the first at row 62$/); // row 40 is masked
    for (let k = 0; k < 5; k++) expect(() => rlvr.tokenLogProbsSync({ ...batch, logits }, { backend })).toThrow(error);
  });

  test('aborted calls leave none of them busy', async () => {
    const rlvr = await load(2);
    await warmUp(rlvr);
    const expected = rlvr.tokenLogProbsSync(batch, { backend });
    for (let k = 0; k < 5; k++) {
      const controller = new AbortController();
      const call = rlvr.tokenLogProbs(batch, { backend, signal: controller.signal });
      setImmediate(() => controller.abort());
      await call.catch(({ code }) => expect(code).toBe('ERR_ABORTED'));
    }
    const before = rlvr.blocksTaken();
    for (let k = 0; k < 3; k++) expect(rlvr.tokenLogProbsSync(batch, { backend })).toEqual(expected);
    expect(rlvr.blocksTaken()).toBeGreaterThan(before);
  });

  test.each<[string, (real: typeof import('node:worker_threads').Worker) => unknown]>([
    [
      'does not start',
      () =>
        class {
          constructor() {
            throw new Error('no thread');
          }
        },
    ],
    [
      'fails in its first block',
      (Real) =>
        class extends Real {
          constructor(script: string, options: object) {
            super(script.replace('exports[kernels', 'undefined[kernels'), options);
          }
        },
    ],
    [
      'ends before it is ready',
      (Real) =>
        class extends Real {
          constructor(_script: string, options: object) {
            super('throw new Error("of the thread")', options);
          }
        },
    ],
    [
      'is silent',
      (Real) =>
        class extends Real {
          constructor(_script: string, options: object) {
            super(
              `const { control, words } = process.getBuiltinModule('node:worker_threads').workerData;
              control[words.address] = control[words.ofSlot + words.address] = 2 ** 21;
              Atomics.store(control, words.ready, 1); setInterval(() => {}, 1e9);`,
              options,
            );
          }
        },
    ],
  ])('one that %s', async (_what, replaced) => {
    const { tokenLogProbs } = await load(1);
    const expected = await tokenLogProbs(batch, { backend });
    const real = await vi.importActual<typeof import('node:worker_threads')>('node:worker_threads');
    vi.doMock('node:worker_threads', () => ({ ...real, Worker: replaced(real.Worker) }));
    const rlvr = await load(2);
    for (let k = 0; k < 8; k++) expect(await rlvr.tokenLogProbs(batch, { backend })).toEqual(expected);
    expect(rlvr.tokenLogProbsSync(batch, { backend })).toEqual(expected);
  });

  test('a number that is none is refused', async () => {
    const options = { env: { RLVR_THREADS: '0', RLVR_BACKEND: backend } };
    const script = `
      try { rlvr.tokenLogProbsSync({ logits: new Float32Array(4), targets: Int32Array.of(0) }); }
      catch ({ code, message }) { console.log(JSON.stringify({ code, message })); }`;
    expect(await childJson(script, options)).toEqual({
      code: 'ERR_BACKEND',
      message: expect.stringMatching(/'wasm': RLVR_THREADS: expected a whole number from 1 to 1024, got "0"$/),
    });
  });

  const CALLS = `
    const [tokens, vocab] = [256, 16000];
    const inputs = { logits: new Float32Array(tokens * vocab), targets: new Int32Array(tokens) };
    const { blocksTaken } = await import(${builtFile('backend/wasm-threads.js')});
    const run = () => rlvr.tokenLogProbs(inputs, { backend: 'wasm' });
    for (let k = 0; k < 200 && blocksTaken() === 0; k++) await run();
    if (blocksTaken() === 0) throw new Error('no thread took a block');`;

  test.each([
    ['are all done', 'for (let k = 0; k < 20; k++) await run();', 0],
    ['go on', 'for (let k = 0; k < 5; k++) await run(); run(); setImmediate(() => process.exit(7));', 7],
    ['block it', `for (let k = 0; k < 20; k++) rlvr.tokenLogProbsSync(inputs, { backend: 'wasm' });`, 0],
  ])('a process ends by itself when its calls %s', async (_when, script, code) => {
    expectClean(await runChild(CALLS + script, { env: { RLVR_THREADS: '3' } }), code);
  });

  test('a worker of the caller has threads of its own, and may be terminated', async () => {
    const source = `import(${builtFile()}).then(async (rlvr) => {
      ${CALLS}
      process.getBuiltinModule('node:worker_threads').parentPort.postMessage('warm');
      for (;;) await run();
    })`;
    const script = `
      import { Worker } from 'node:worker_threads';
      for (let k = 0; k < 3; k++) {
        const worker = new Worker(${JSON.stringify(source)}, { eval: true });
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
        await worker.terminate();
      }`;
    expectClean(await runChild(script, { env: { RLVR_THREADS: '2' } }));
  });
});
