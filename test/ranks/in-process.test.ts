// Ranks in one process: on one thread, on workers, and where one is closed, ends or makes a mistake.
import { MessageChannel, Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { type InProcessCommunicator, inProcess, type SharedRank } from '../../lib/index.js';
import { builtFile } from '../boundary/child.js';
import { failureOf, rlvrError } from '../support/errors.js';
import { conformance, expectedMistakes, mistakes } from './conformance.mjs';

const SIZES = [1, 2, 3, 4];
const conformanceFile = JSON.stringify(new URL('./conformance.mjs', import.meta.url).href);

const workers: Worker[] = [];
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
});

/** A worker in which `comm` is a rank, `answer` sends what the test gets, and `inProcess` is there. */
function worker(rank: InProcessCommunicator, code: string): { worker: Worker; answer: Promise<unknown> } {
  const started = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
    const answer = (value) => parentPort.postMessage(value);
    (async () => {
      const { inProcess } = await import(${builtFile()});
      const { conformance, mistakes } = await import(${conformanceFile});
      const comm = inProcess(workerData);
      ${code}
    })();`,
    { eval: true, workerData: rank.share() },
  );
  workers.push(started);
  const answer = new Promise((resolve, reject) => {
    started.once('message', resolve);
    started.once('error', reject);
  });
  answer.catch(() => undefined); // those that are not awaited
  return { worker: started, answer };
}

describe.each(SIZES)('%i ranks', (size) => {
  test('on one thread', async () => {
    const wrong = await Promise.all(inProcess(size).map((comm) => conformance(comm, { sync: false, rankOrder: true })));
    expect(wrong.flat()).toEqual([]);
  });

  test.each([true, false])('on threads of their own, blocking: %s', async (sync) => {
    const [first, ...others] = inProcess(size);
    const how = { sync, rankOrder: true };
    const answers = others.map(
      (rank) => worker(rank, `answer(await conformance(comm, ${JSON.stringify(how)}));`).answer,
    );
    const own = await conformance(first, how);
    expect([own, ...(await Promise.all(answers))].flat()).toEqual([]);
  });
});

describe('a mistake of one rank', () => {
  test.each([2, 3])('reaches all %i, and the next call works', async (size) => {
    const errors = await Promise.all(inProcess(size).map((comm) => mistakes(comm, false)));
    expect(errors).toEqual(errors.map((_, rank) => expectedMistakes(rank, size)));
  });

  test('reaches ranks on other threads, blocking', async () => {
    const [first, second] = inProcess(2);
    const { answer } = worker(second, 'answer(await mistakes(comm, true));');
    expect(await mistakes(first, true)).toEqual(expectedMistakes(0, 2));
    expect(await answer).toEqual(expectedMistakes(1, 2));
  });
});

describe('calls', () => {
  test('several at a time run in their order, with the numbers that there were', async () => {
    const results = inProcess(3).map(async (comm) => {
      const values = Float64Array.of(comm.rank);
      const calls = [
        comm.allReduce(values, 'sum'),
        comm.allGather(values),
        comm.allReduce(Float64Array.of(2 * comm.rank - 4), 'max'),
      ];
      values[0] = 99;
      return Promise.all(calls);
    });
    const one = [Float64Array.of(3), [0, 1, 2].map((r) => Float64Array.of(r)), Float64Array.of(0)];
    expect(await Promise.all(results)).toEqual([one, one, one]);
  });

  test('a blocking one waits for no other', async () => {
    const [comm, other] = inProcess(2);
    other.share();
    const call = comm.allReduce(new Float64Array(1), 'sum');
    expect(await failureOf(() => comm.allReduceSync(new Float64Array(1), 'sum'))).toEqual(
      rlvrError(
        'ERR_RANK',
        'allReduceSync: expected the asynchronous calls before it to be awaited, got 1 in progress',
      ),
    );
    other.close();
    await expect(call).rejects.toEqual(rlvrError('ERR_RANK', 'rank 1 of 2 was closed'));
  });

  test('a blocking one is refused while another rank is on its thread', async () => {
    const [comm] = inProcess(2);
    expect(await failureOf(() => comm.allGatherSync(new Float64Array(1)))).toEqual(
      rlvrError('ERR_RANK', 'allGatherSync: expected the other ranks on threads of their own, got rank 1 on this one'),
    );
  });

  test('a transferred array is refused, and the other rank has its sum', async () => {
    const ranks = inProcess(2);
    const values = Float64Array.of(1);
    const calls = [ranks[0].allReduce(values, 'sum'), ranks[1].allReduce(Float64Array.of(2), 'sum')];
    structuredClone(values.buffer, { transfer: [values.buffer] });
    await expect(calls[0]).rejects.toEqual(rlvrError('ERR_DTYPE', 'values: expected a non-detached array'));
    expect(await calls[1]).toEqual(Float64Array.of(3));
  });

  test('numbers in shared memory, and views that begin later', async () => {
    const ranks = inProcess(2);
    const all = new Float64Array(new SharedArrayBuffer(32));
    all.set([1, 2, 3, 4]);
    const parts = [all.subarray(0, 2), all.subarray(2)];
    await Promise.all(ranks.map((comm) => comm.allReduce(parts[comm.rank], 'sum')));
    expect([...all]).toEqual([4, 6, 4, 6]);
  });
});

describe('a closed rank', () => {
  test('ends the calls of the others, those that wait and those to come', async () => {
    const [first, second, third] = inProcess(3);
    const waiting = first.allGather(new Float64Array(1));
    const both = second.allGather(new Float64Array(1));
    third.close();
    await expect(waiting).rejects.toEqual(rlvrError('ERR_RANK', 'rank 2 of 3 was closed'));
    await expect(both).rejects.toEqual(rlvrError('ERR_RANK', 'rank 2 of 3 was closed'));
    await expect(first.allReduce(new Float64Array(1), 'sum')).rejects.toEqual(
      rlvrError('ERR_RANK', 'rank 2 of 3 was closed'),
    );
  });

  test('makes no more calls, and none that waits goes on', async () => {
    const [comm, other] = inProcess(2);
    const waiting = comm.allGather(new Float64Array(1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    comm[Symbol.dispose]();
    comm.close();
    const closed = rlvrError('ERR_DISPOSED', 'expected an open communicator, got rank 0, which was closed');
    await expect(waiting).rejects.toEqual(closed);
    await expect(comm.allReduce(new Float64Array(1), 'sum')).rejects.toEqual(closed);
    expect(await failureOf(() => comm.share())).toEqual(closed);
    await expect(other.allGather(new Float64Array(0))).rejects.toEqual(rlvrError('ERR_RANK', 'rank 0 of 2 was closed'));
  });

  test('leaves the others what they had of it', async () => {
    const [comm, other] = inProcess(2);
    const calls = [comm.allReduce(Float64Array.of(1), 'sum'), other.allReduce(Float64Array.of(2), 'sum')];
    expect(await calls[1]).toEqual(Float64Array.of(3));
    other.close();
    expect(await calls[0]).toEqual(Float64Array.of(3));
  });

  test('a worker that throws closes its own, and one that was terminated is closed where it was shared', async () => {
    for (const code of ["throw new Error('broken');", 'process.exit(3);']) {
      const [comm, other] = inProcess(2);
      worker(other, code);
      expect(await failureOf(() => comm.allGatherSync(new Float64Array(1)))).toEqual(
        rlvrError('ERR_RANK', 'rank 1 of 2 was closed'),
      );
    }
    const [comm, other] = inProcess(2);
    const { worker: stopped, answer } = worker(
      other,
      "answer('here'); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);",
    );
    stopped.once('exit', () => other.close());
    await answer;
    const failure = failureOf(() => comm.allReduce(new Float64Array(1), 'sum'));
    await stopped.terminate();
    expect(await failure).toEqual(rlvrError('ERR_RANK', 'rank 1 of 2 was closed'));
    await expect(comm.allGather(new Float64Array(1))).rejects.toEqual(rlvrError('ERR_RANK', 'rank 1 of 2 was closed'));
  });
});

describe('a shared rank', () => {
  test('is opened once, and no longer used where it was', async () => {
    const [, rank] = inProcess(2);
    const { port1, port2 } = new MessageChannel();
    const arrived = new Promise<SharedRank>((resolve) => port2.once('message', resolve));
    port1.postMessage(rank.share());
    const shared = await arrived;
    port1.close();
    expect(inProcess(shared)).toMatchObject({ rank: 1, size: 2 });
    expect(await failureOf(() => inProcess(shared))).toEqual(
      rlvrError('ERR_RANK', 'shared: expected a rank that no thread has opened, got rank 1 again'),
    );
    await expect(rank.allGather(new Float64Array(1))).rejects.toEqual(
      rlvrError('ERR_RANK', 'allGather: expected a rank of this thread, got rank 1, which was shared'),
    );
  });

  test('is not one with calls in progress', async () => {
    const [comm] = inProcess(2);
    const call = comm.allGather(new Float64Array(1));
    expect(await failureOf(() => comm.share())).toEqual(
      rlvrError('ERR_RANK', 'share: expected no calls in progress, got 1'),
    );
    comm.close();
    await failureOf(() => call);
  });

  test('is nothing else', async () => {
    const memory = inProcess(1)[0].share().memory;
    const wrong = [
      null,
      {},
      { rank: 0, memory: new SharedArrayBuffer(8) },
      { rank: 0, memory: new SharedArrayBuffer(memory.byteLength) },
      { rank: 0, memory: new ArrayBuffer(memory.byteLength) },
    ];
    for (const given of wrong) {
      expect(await failureOf(() => inProcess(given as SharedRank))).toEqual(rlvrError('ERR_DTYPE', 'shared: expected'));
    }
    for (const rank of [-1, 1, 0.5, '0']) {
      const failure = await failureOf(() => inProcess({ rank, memory } as SharedRank));
      expect(failure).toEqual(rlvrError('ERR_RANGE', 'shared.rank: expected a'));
    }
  });
});

test('the number of ranks', async () => {
  for (const size of [0, -1, 1.5, Number.NaN, 1025, '2', undefined, 2n]) {
    expect(await failureOf(() => inProcess(size as number))).toEqual(rlvrError('ERR_RANGE', 'size: expected a'));
  }
});
