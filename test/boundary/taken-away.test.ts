// Arrays whose memory the caller takes away while a call uses them: an error that names one of them. What was taken away stays
// alive here, since threads may still read it; `copyInputs` (test/copy-inputs.test.ts) is for callers who cannot promise that.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../../lib/index.js';
import { describeBackends } from '../support/backends.js';
import { rlvrError } from '../support/errors.js';
import { fromLogProbs, fullBatch } from '../support/named-losses.js';

type AnyArray = Float32Array | Float64Array | Int32Array | Uint8Array;

declare const WebAssembly: { Memory: new (options: object) => { buffer: ArrayBuffer; grow(pages: number): number } };

const alive: unknown[] = [];

function detach(array: AnyArray): void {
  alive.push(structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] }));
  expect(array.length).toBe(0);
}

const gone = (name: string) =>
  rlvrError(
    'ERR_DTYPE',
    `${name}: expected an array that keeps its memory until the call is done, got one whose buffer`,
  );

const make = () => structuredClone(fullBatch(9, { groups: 3 }));
const makeLogProbs = () => structuredClone(fromLogProbs(fullBatch(9, { groups: 3 })));
const shape: [number, number] = [make().targets.length, 5];

describeBackends('taken away during a call', (backend) => {
  const names = Object.keys(make()) as (keyof ReturnType<typeof make>)[];
  test.each(names)('%s', async (name) => {
    const batch = make();
    const pending = rlvr.grpo(batch, { backend, klCoef: 0.1, rolloutCorrection: {} });
    detach(batch[name]);
    await expect(pending).rejects.toEqual(gone(name));
  });

  test('the log-probs, and an array for their gradient of either type', async () => {
    const batch = makeLogProbs();
    const pending = rlvr.grpo(batch, { backend });
    detach(batch.logProbs);
    await expect(pending).rejects.toEqual(gone('logProbs'));
    for (const out of [new Float64Array(shape[0]), new Float32Array(shape[0])]) {
      const writing = rlvr.grpo(makeLogProbs(), { backend, gradient: { out } });
      detach(out);
      await expect(writing).rejects.toEqual(gone('gradient.out'));
    }
  });

  test('logits in a tensor, and an array for their gradient', async () => {
    const tensor = (data = make().logits) => ({ data, shape });
    for (const gradient of ['new', 'none', 'in-place'] as const) {
      const logits = tensor();
      const pending = rlvr.conspo({ ...make(), logits }, { backend, gradient });
      detach(logits.data);
      await expect(pending, gradient).rejects.toEqual(gone('logits'));
    }
    const out = tensor();
    const pending = rlvr.conspo({ ...make(), logits: tensor() }, { backend, gradient: { out } });
    detach(out.data);
    await expect(pending).rejects.toEqual(gone('gradient.out'));
  });

  // The reference notices the NaN that it computes, after other kernels have run.
  test.skipIf(backend === 'reference')('old log-probs, by a getter of the tensor for the gradient', () => {
    const { rolloutLogProbs: _, logits, ...rest } = make();
    const batch = { ...rest, logits: { data: logits, shape } };
    const data = new Float32Array(logits.length);
    const out = {
      shape,
      get data() {
        if (batch.oldLogProbs.length > 0) detach(batch.oldLogProbs);
        return data;
      },
    };
    expect(() => rlvr.bnpoSync(batch, { backend, gradient: { out } })).toThrow(gone('oldLogProbs'));
  });

  test('with a WebAssembly memory that grows', async () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
    const { logits, ...batch } = make();
    const inMemory = new Float32Array(memory.buffer, 16, logits.length);
    inMemory.set(logits);
    const pending = rlvr.conspo({ ...batch, logits: inMemory }, { backend });
    memory.grow(1);
    await expect(pending).rejects.toEqual(gone('logits'));
  });

  test('from calls that still wait for a thread', async () => {
    const batches = Array.from({ length: 12 }, make);
    const pending = batches.map((batch) => rlvr.tokenLogProbs(batch, { backend }));
    for (const { targets } of batches) detach(targets);
    for (const outcome of await Promise.allSettled(pending)) {
      expect(outcome).toEqual({ status: 'rejected', reason: gone('targets') });
    }
  });

  test('of a call that was aborted: that is what it says', async () => {
    const controller = new AbortController();
    const batch = make();
    const pending = rlvr.conspo(batch, { backend, signal: controller.signal });
    controller.abort();
    detach(batch.logits);
    await expect(pending).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  test('what the loss does not read, and what was gone before', async () => {
    const batch = make();
    detach(batch.refLogProbs);
    expect(await rlvr.conspo(batch, { backend })).toEqual(rlvr.conspoSync(make(), { backend }));
  });
});

describe('taken away by an objective', () => {
  test('the blocking form says so too', () => {
    const batch = make();
    const loss = rlvr.defineLoss({
      score: 'logLikelihood',
      objective: rlvr.scoreObjective(({ scores }) => {
        detach(batch.logits);
        return { loss: 0, gradScores: scores };
      }),
    });
    expect(() => loss.runSync(batch, { backend: 'cpu' })).toThrow(gone('logits') as Error);
  });
});
