// Arrays for which there is no memory: an error of this package, that says what was to be in them.
import { afterEach, describe, expect, test, vi } from 'vitest';
import { outputArray } from '../lib/backend/outputs.js';
import * as rlvr from '../lib/index.js';
import { failureOf } from './support/errors.js';
import { SUBJECTS } from './support/subjects.js';

afterEach(() => {
  vi.unstubAllGlobals();
});

/** From here on there are no more new arrays of `type` of `elements` or more; views of memory that is there are. */
function exhaust(type: 'Float64Array' | 'Float32Array' | 'Int32Array' | 'Uint8Array', elements: number): void {
  const refusing = new Proxy(globalThis[type], {
    construct(Target, [first, ...rest], newTarget) {
      const length = typeof first === 'number' ? first : ArrayBuffer.isView(first) ? (first as Uint8Array).length : 0;
      if (length >= elements) throw new RangeError('Array buffer allocation failed');
      return Reflect.construct(Target, [first, ...rest], newTarget);
    },
  });
  vi.stubGlobal(type, refusing);
}

test('an output of over 4 GiB, which Buffer does not have in Node 20', () => {
  expect(outputArray('gradLogProbs', 2 ** 29 + 8).length).toBe(2 ** 29 + 8); // nothing is written: it takes no memory
});

test('a length that no typed array has', () => {
  const cause = expect.any(RangeError);
  const message = 'scores: expected a size for which there is memory, got 1125899906842624 elements';
  const refusal = expect.objectContaining({ name: 'RlvrError', code: 'ERR_RANGE', message, cause });
  expect(() => outputArray('scores', 2 ** 50)).toThrow(refusal);
});

describe.each(SUBJECTS)('$name', ({ run, runSync, inputs }) => {
  test.each(['Float64Array', 'Float32Array', 'Int32Array', 'Uint8Array'] as const)(
    'no memory for a %s',
    async (type) => {
      for (const call of [runSync, run]) {
        const given = inputs();
        exhaust(type, 2);
        const outcome = await Promise.resolve()
          .then(() => call(given, { backend: 'reference' }))
          .then(
            () => undefined,
            (error) => error,
          );
        vi.unstubAllGlobals();
        if (outcome === undefined) continue; // has no such array
        expect(outcome).toBeInstanceOf(rlvr.RlvrError);
        expect(outcome).toMatchObject({
          code: 'ERR_RANGE',
          message: expect.stringMatching(/^\w+: expected a size for which there is memory, got \d+ elements$/),
        });
      }
    },
  );
});

test('padded and fromDense', async () => {
  const shape = [3, 0] as const;
  const batch = { shape, mask: new Uint8Array(0), logProbs: new Float64Array(0) };
  exhaust('Int32Array', 3);
  for (const call of [() => rlvr.padded(batch), () => rlvr.fromDense([1, 2, 1])]) {
    expect(await failureOf(call)).toMatchObject({ name: 'RlvrError', code: 'ERR_RANGE' });
  }
});
