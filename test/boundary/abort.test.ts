// AbortSignal before, during and after an op.
import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  advantageObjective,
  type BackendName,
  conspo,
  forward,
  groupInfoNCE,
  grpo,
  ratioScores,
  ratioScoresBackward,
  sequenceLogProbs,
  sequenceLogProbsBackward,
  tokenLogProbs,
  tokenLogProbsBackward,
} from '../../lib/index.js';
import { describeBackends } from '../support/backends.js';

const packed = { cuSeqlens: Int32Array.of(0, 2, 4), mask: Uint8Array.of(1, 1, 1, 0) };
const sequences = { scores: Float64Array.of(-1, -2), rewards: Float32Array.of(1, 0), cuGroups: Int32Array.of(0, 2) };
const perToken = Float64Array.of(-1, -2, -3, -4);
const perSequence = Float64Array.of(1, -1);
const rows = { logits: Float32Array.from({ length: 12 }, (_, i) => i % 5), targets: Int32Array.of(0, 1, 2, 0) };
const batch = { ...rows, ...packed, ...sequences };

type Run = (options: { signal?: AbortSignal; backend: BackendName }) => Promise<unknown>;

function canListenTo(signal: AbortSignal): boolean {
  try {
    signal.addEventListener('abort', () => {});
    return true;
  } catch {
    return false;
  }
}

const OPS: [name: string, run: Run][] = [
  ['tokenLogProbs', (options) => tokenLogProbs(rows, options)],
  [
    'tokenLogProbsBackward',
    (options) => tokenLogProbsBackward({ ...rows, logSumExp: perToken, gradLogProbs: perToken }, options),
  ],
  ['sequenceLogProbs', (options) => sequenceLogProbs({ logProbs: perToken, ...packed }, options)],
  [
    'sequenceLogProbsBackward',
    (options) =>
      sequenceLogProbsBackward({ gradScores: perSequence, tokenCounts: Float64Array.of(2, 1), ...packed }, options),
  ],
  ['ratioScores', (options) => ratioScores({ logProbs: perToken, ...packed }, options)],
  [
    'ratioScoresBackward',
    (options) => ratioScoresBackward({ gradScores: perSequence, scoreGrads: perToken, ...packed }, options),
  ],
  ['groupInfoNCE', (options) => groupInfoNCE(sequences, options)],
  [
    'advantageObjective',
    (options) =>
      advantageObjective({ scores: perSequence, advantages: perSequence, tokenCounts: Float64Array.of(1, 2) }, options),
  ],
  ['conspo', (options) => conspo(batch, options)],
  ['grpo', (options) => grpo(batch, options)],
  ['forward', (options) => forward(batch, 'logLikelihood', options)],
  [
    'backward',
    async ({ signal, backend }) =>
      (await forward(batch, 'logLikelihood', { backend })).backward(perSequence, { signal }),
  ],
];

/** A batch that takes a backend a while. */
function slowBatch(backend: BackendName) {
  const vocab = 20_000;
  const tokens = backend === 'reference' ? 600 : 16_000;
  const logits = new Float32Array(tokens * vocab);
  for (let i = 0; i < vocab; i++) logits[i] = (i % 977) / 100;
  for (let filled = vocab; filled < logits.length; filled *= 2) logits.copyWithin(filled, 0, filled);
  return {
    logits,
    targets: new Int32Array(tokens).fill(7),
    cuSeqlens: Int32Array.of(0, tokens / 2, tokens),
    cuGroups: Int32Array.of(0, 2),
    rewards: Float32Array.of(1, 0),
  };
}

describeBackends('abort', (backend) => {
  describe.each(OPS)('%s', (_name, run) => {
    test('before', async () => {
      const reason = new Error('no longer wanted');
      const signal = AbortSignal.abort(reason);
      await expect(run({ signal, backend })).rejects.toMatchObject({
        name: 'RlvrError',
        code: 'ERR_ABORTED',
        cause: reason,
      });
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    });

    test('right after the call', async () => {
      const controller = new AbortController();
      const pending = run({ signal: controller.signal, backend });
      controller.abort();
      await expect(pending).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: { name: 'AbortError' } });
      expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    });

    test('after: nothing happens, and nothing listens', async () => {
      const controller = new AbortController();
      const result = await run({ signal: controller.signal, backend });
      expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
      controller.abort();
      await sleep(1);
      const again = await run({ backend });
      expect(JSON.stringify(again)).toBe(JSON.stringify(result)); // as without a signal
    });
  });

  test('before: a gradient in place is not begun', async () => {
    const logits = rows.logits.slice();
    await expect(
      conspo({ ...batch, logits }, { gradient: 'in-place', signal: AbortSignal.abort(), backend }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(logits).toEqual(rows.logits);
  });

  test('something other than a signal', async () => {
    const pretending = { [Symbol.toStringTag]: 'AbortSignal', aborted: false };
    for (const [what, signal] of Object.entries({ object: {}, number: 7, text: 'abort', null: null, pretending })) {
      await expect(conspo(batch, { backend, signal: signal as never }), what).rejects.toMatchObject({
        name: 'RlvrError',
        message: expect.stringMatching(/^signal: expected an AbortSignal, got /),
      });
    }
  });

  test('a frozen signal: listened to, or refused where the platform cannot', async () => {
    const frozen = Object.freeze(new AbortController().signal);
    const listens = await conspo(batch, { backend, signal: frozen }).then(
      () => true,
      (error: unknown) => {
        expect(error).toMatchObject({
          code: 'ERR_DTYPE',
          message: 'signal: expected an AbortSignal that can be listened to, got a frozen one',
        });
        return false;
      },
    );
    expect(listens).toBe(canListenTo(Object.freeze(new AbortController().signal)));
  });

  test('during: ends well before the op would, with the reason', async () => {
    const slow = slowBatch(backend);
    const options = { entropy: true, backend, gradient: 'none' } as const;
    await conspo(slow, options); // touches every page of memory
    const start = performance.now();
    await conspo(slow, options);
    const whole = performance.now() - start;
    const controller = new AbortController();
    const reason = { why: 'a plain object' };
    const begun = performance.now();
    const pending = conspo(slow, { ...options, signal: controller.signal });
    setTimeout(() => controller.abort(reason), whole / 5);
    await expect(pending).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: reason });
    expect(performance.now() - begun).toBeLessThan(0.7 * whole);
    expect(whole).toBeGreaterThan(30); // else nothing was cut short
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  test('one signal for many ops, and a timeout', async () => {
    const slow = slowBatch(backend);
    const signal = AbortSignal.timeout(5);
    const pending = Array.from({ length: 8 }, () => conspo(slow, { signal, gradient: 'none', backend }));
    for (const outcome of await Promise.allSettled(pending)) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: 'ERR_ABORTED', cause: { name: 'TimeoutError' } },
      });
    }
    const unharmed = await conspo(batch, { backend });
    expect(unharmed).toEqual(await conspo(batch, { backend }));
  });
});
