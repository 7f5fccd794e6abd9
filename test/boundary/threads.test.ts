// The threads of libuv are not this package's alone: its calls take half of them at a time, in order.
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Cancel } from '../../lib/kernels.js';
import { childJson, expectClean, runChild } from './child.js';

/** Jobs that end when told to, and what has happened to them. */
function jobs() {
  const started: string[] = [];
  const ends = new Map<string, (failure?: Error) => void>();
  const job = (name: string) => () => {
    started.push(name);
    return new Promise<void>((resolve, reject) => {
      ends.set(name, (failure) => (failure ? reject(failure) : resolve()));
    });
  };
  return { started, job, end: (name: string, failure?: Error) => ends.get(name)!(failure) };
}

/** The module anew, for so many threads. */
async function load(threads: string | undefined) {
  vi.stubEnv('UV_THREADPOOL_SIZE', threads);
  vi.resetModules();
  return (await import('../../lib/backend/threads.js')).onThread;
}
afterEach(() => vi.unstubAllEnvs());

const turn = () => new Promise((resolve) => setImmediate(resolve));
const cancelled = (): Cancel => ({ flag: new Int32Array(1) });

test('half the threads are taken, as libuv counts them', async () => {
  const taken: Record<string, number> = {};
  for (const threads of [undefined, '1', '2', '3', '9', '0', '', 'many', '-1', '5000']) {
    const onThread = await load(threads);
    const { started, job, end } = jobs();
    const names = Array.from({ length: 600 }, (_, i) => String(i));
    const all = names.map((name) => onThread(job(name)));
    taken[String(threads)] = started.length;
    for (const name of names) {
      end(name);
      await turn();
    }
    await Promise.all(all);
  }
  const one = { 1: 1, 2: 1, 3: 1, 0: 1, '': 1, many: 1 };
  expect(taken).toEqual({ undefined: 2, ...one, 9: 4, '-1': 512, 5000: 512 });
});

describe('two of four threads', () => {
  test('are taken at once, and then in order', async () => {
    const onThread = await load('4');
    const { started, job, end } = jobs();
    const all = ['a', 'b', 'c', 'd', 'e'].map((name) => onThread(job(name))!);
    expect(started).toEqual(['a', 'b']);
    end('b');
    await all[1];
    await turn();
    expect(started).toEqual(['a', 'b', 'c']);
    const failure = new Error('of c');
    end('c', failure);
    await expect(all[2]).rejects.toBe(failure);
    await turn();
    expect(started).toEqual(['a', 'b', 'c', 'd']);
    for (const name of ['a', 'd']) end(name);
    await turn();
    end('e');
    await Promise.all([all[0], all[3], all[4]]);
  });

  test('are not taken by what turns out to need none, or fails to start', async () => {
    const onThread = await load('4');
    const { started, job, end } = jobs();
    expect(onThread(() => undefined)).toBeUndefined();
    expect(() => onThread(() => expect.fail('no start'))).toThrow('no start');
    const held = ['a', 'b'].map((name) => onThread(job(name)));
    const none = onThread(() => undefined);
    const fails = onThread(() => {
      throw new Error('no start');
    });
    const last = onThread(job('c'));
    for (const name of ['a', 'b']) end(name);
    await Promise.all([...held, none]);
    await expect(fails).rejects.toThrow('no start');
    expect(started).toEqual(['a', 'b', 'c']);
    end('c');
    await last;
  });

  test('an aborted call leaves the queue', async () => {
    const onThread = await load('4');
    const { started, job, end } = jobs();
    const cancel = cancelled();
    const running = ['a', 'b'].map((name) => onThread(job(name)));
    const waiting = onThread(job('c'), cancel);
    const last = onThread(job('d'), cancelled());
    cancel.waiting!();
    await waiting;
    for (const name of ['a', 'b']) end(name);
    await Promise.all(running);
    await turn();
    expect(started).toEqual(['a', 'b', 'd']);
    end('d');
    await last;
  });
});

// Each of a few ten milliseconds.
const CALLS = `
const [tokens, vocab] = [256, 40000];
const logits = new Float32Array(tokens * vocab);
for (let i = 0; i < logits.length; i++) logits[i] = (i % 977) / 100;
const targets = new Int32Array(tokens).fill(7);
const call = (options) => rlvr.tokenLogProbs({ logits, targets }, { backend: 'cpu', entropy: true, ...options });
const order = [];
const noted = (name, promise) => promise.then(() => order.push(name), (error) => order.push(error.code));
`;

describe('while many calls run', () => {
  test('a file is read before they are done', async () => {
    const { order } = await childJson<{ order: string[] }>(
      `${CALLS}
      import { readFile } from 'node:fs/promises';
      const calls = Array.from({ length: 48 }, () => noted('call', call()));
      await Promise.all([...calls, noted('file', readFile('package.json'))]);
      console.log(JSON.stringify({ order }));`,
      { env: { UV_THREADPOOL_SIZE: '4' } },
    );
    expect(order.length).toBe(49);
    expect(order.indexOf('file')).toBeLessThan(24); // behind all of them: after 45
  });

  test('all are done where there is one thread', async () => {
    const { order } = await childJson<{ order: string[] }>(
      `${CALLS}
      await Promise.all([1, 2, 3].map((i) => noted(i, call())));
      console.log(JSON.stringify({ order }));`,
      { env: { UV_THREADPOOL_SIZE: '1' } },
    );
    expect(order).toEqual([1, 2, 3]);
  });

  test('one that waits and is aborted is rejected at once', async () => {
    const { order } = await childJson<{ order: string[] }>(
      `${CALLS}
      const controller = new AbortController();
      const calls = Array.from({ length: 8 }, () => noted('call', call()));
      const last = noted('last', call({ signal: controller.signal }));
      controller.abort();
      await last;
      console.log(JSON.stringify({ order }));
      await Promise.all(calls);`,
      { env: { UV_THREADPOOL_SIZE: '4' } },
    );
    expect(order).toEqual(['ERR_ABORTED']);
  });

  test('they may share a signal without a warning of a leak', async () => {
    const ended = await runChild(`${CALLS}
      import { getEventListeners } from 'node:events';
      const { signal } = new AbortController();
      const all = Promise.all(Array.from({ length: 12 }, () => call({ signal })));
      if (getEventListeners(signal, 'abort').length !== 1) throw new Error('listeners');
      await all;
      if (getEventListeners(signal, 'abort').length !== 0) throw new Error('listeners left');`);
    expectClean(ended);
  });
});
