// What error messages say of a value: something, in a line, whatever the value does when it is looked at.
import { expect, describe as suite, test } from 'vitest';
import { badArgument, describe, RlvrError, tag } from '../lib/errors.js';
import * as rlvr from '../lib/index.js';
import { failureOf } from './support/errors.js';

const fail = (): never => {
  throw new Error('looked at');
};
const MANY = 1e6;
const { proxy: revoked, revoke } = Proxy.revocable({}, {});
const { proxy: revokedFunction, revoke: revokeFunction } = Proxy.revocable(() => 0, {});
revoke();
revokeFunction();

class LyingArray extends Float32Array {
  override get length(): never {
    return fail();
  }
  override get [Symbol.toStringTag](): never {
    return fail();
  }
}

class Unreadable {
  get [Symbol.toStringTag]() {
    return fail();
  }
  toString = fail;
}

const fieldsOf = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`key${i}`, i]));
const traps = new Proxy({}, { get: fail, ownKeys: fail, getPrototypeOf: fail, has: fail });
const functionOf = (source: string) => new Function(source);

suite('describe', () => {
  // As functions: the test runner would look at the values.
  test.each<[value: () => unknown, text: string]>([
    [() => revoked, 'a revoked Proxy'],
    [() => traps, 'an object that cannot be read'],
    [() => new Unreadable(), 'an object with keys toString'],
    [() => new LyingArray(3), 'Float32Array of length 3'],
    [() => ({ [Symbol.toStringTag]: 'Float32Array' }), 'Float32Array'],
    [() => Object.create(null), 'an object with keys (none)'],
    [() => new DataView(new ArrayBuffer(8)), 'DataView of length 8'],
    [
      () => Object.defineProperty(new DataView(new ArrayBuffer(8)), Symbol.toStringTag, { value: 'Float32Array' }),
      'DataView of length 8',
    ],
    [() => 2n ** 64n, '18446744073709551616n'],
    [() => 10n ** 100000n, 'a bigint of over 128 bits'],
    [() => 'x'.repeat(MANY), `"${'x'.repeat(37)}..."`],
    [() => 'a\u0000\n\u202eb', '"a\\u0000\\n\u202eb"'],
    [() => Symbol('s'), 'Symbol(s)'],
    [() => -0, '0'],
  ])('%#', (value, text) => {
    expect(describe(value())).toBe(text);
  });

  test.each<[what: string, value: () => unknown]>([
    ['a revoked function', () => revokedFunction],
    ['many keys', () => fieldsOf(MANY)],
    ['a long key', () => ({ ['k'.repeat(MANY)]: 1 })],
    ['a long tag', () => ({ [Symbol.toStringTag]: 't'.repeat(MANY) })],
    ['a long symbol', () => Symbol('s'.repeat(MANY))],
    ['a long function', () => functionOf(`return 1 ${'+ 1'.repeat(1e5)};`)],
    ['a long function name', () => Object.defineProperty(() => 0, 'name', { value: 'n'.repeat(MANY) })],
    ['a long list', () => new Array(2 ** 32 - 1)],
  ])('of %s is short', (_what, value) => {
    const text = describe(value());
    expect(text.length).toBeLessThanOrEqual(120);
    expect(text).toMatch(/^\S.*\S$/s);
  });
});

test('a tag is that of the array, and of anything else a word', () => {
  class Pretending extends Float64Array {
    override get [Symbol.toStringTag]() {
      return 'Float32Array' as 'Float64Array';
    }
  }
  expect(tag(new Pretending(1))).toBe('Float64Array');
  expect([revoked, traps, new Unreadable(), revokedFunction].map(tag)).toEqual([
    'Object',
    'Object',
    'Object',
    'Object',
  ]);
  expect([new AbortController().signal, [], null, 3].map(tag)).toEqual(['AbortSignal', 'Array', 'Null', 'Number']);
});

suite('messages', () => {
  test('are one line of at most 500 characters', () => {
    const name = `${'n'.repeat(100)}\n`.repeat(MANY / 100);
    for (const error of [
      badArgument('ERR_RANGE', name, name, name),
      new RlvrError('ERR_CUDA', '\n\u0007'.repeat(1e6)),
    ]) {
      expect(error.message.length).toBe(500);
      expect(error.message).toMatch(/^[\x20-\x7e]+$/);
    }
    expect(new RlvrError('ERR_CUDA', 'é\u2028\u202e\ud800').message).toBe('é\\u{2028}\\u{202e}\\u{d800}');
  });

  test('that quote names of the caller are, too', async () => {
    const long = `epsilon\u0000${'x'.repeat(MANY)}`;
    const many = Object.keys(fieldsOf(1000)) as never[];
    const loss = rlvr.defineLoss({ score: 'logLikelihood', objective: rlvr.infoNCE, parameters: many });
    const calls = [
      () => rlvr.cosineMargin({ [long]: 1 }),
      () => rlvr.conspo({} as never, { [long]: 1 } as never),
      () => rlvr.grpo({} as never, { advantage: { [long]: 1 } } as never),
      () => loss.run({} as never, { [long]: 1 } as never),
      () => rlvr.forward({} as never, { kind: 'x'.repeat(MANY) } as never),
      () => rlvr.advantages(fieldsOf(1000) as never),
    ];
    for (const call of calls) {
      const error = (await failureOf(call)) as RlvrError;
      expect(error).toBeInstanceOf(RlvrError);
      expect(error.message.length).toBeLessThanOrEqual(500);
      expect(error.message).toMatch(/^[\x20-\x7e]+$/);
    }
  });
});
