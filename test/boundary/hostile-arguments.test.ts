// Arguments that lie, or cannot be looked at: arrays of subclasses whose accessors say something else, arrays that pretend to
// be of another type, revoked Proxies, getters that throw. Every op and loss, each argument and option.
import { describe, expect, test } from 'vitest';
import { DeviceTensor } from '../../lib/cuda/device.js';
import * as rlvr from '../../lib/index.js';
import { describeBackends } from '../support/backends.js';
import { failureOf, rlvrError } from '../support/errors.js';
import { bytesIn, type Call, type Callable, expectRefusal } from '../support/refusals.js';
import { type Subject, subjectsOn } from '../support/subjects.js';

type AnyArray = Float64Array;
type ArrayClass = Float64ArrayConstructor;

const unasked = (): never => {
  throw new Error('asked the array itself');
};

/** The same elements in an array of which nothing but the elements is true. */
function lying(array: AnyArray): AnyArray {
  class Lying extends (array.constructor as ArrayClass) {
    override get [Symbol.toStringTag](): never {
      return unasked();
    }
    static get [Symbol.species](): never {
      return unasked();
    }
  }
  const lie = new Lying(array.buffer.slice(0) as ArrayBuffer, array.byteOffset, array.length);
  for (const name of ['length', 'byteLength', 'byteOffset', 'buffer', 'constructor', Symbol.iterator]) {
    Object.defineProperty(lie, name, { get: unasked });
  }
  for (const name of ['slice', 'subarray', 'set', 'map', 'fill', 'every', 'findIndex', 'reduce', 'forEach']) {
    Object.defineProperty(lie, name, { value: unasked });
  }
  return lie;
}

/** An array that says of itself that it is of the type that is wanted. */
function pretending(wanted: AnyArray): ArrayBufferView {
  const Other = wanted instanceof Int32Array ? Float64Array : Int32Array;
  class Pretending extends (Other as ArrayClass) {
    override get [Symbol.toStringTag]() {
      return wanted.constructor.name as 'Float64Array';
    }
  }
  return new Pretending(wanted.length);
}

function revoked(target: object = {}): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

/** What is read of a subject's inputs. */
const namesOf = ({ arguments: read }: Subject) => read.map(({ name }) => name);

describeBackends('hostile arguments', (backend) => {
  describe.each(subjectsOn(backend))('$name', (subject) => {
    test('arrays that lie about themselves are taken for what they hold', async () => {
      const expected = subject.runSync(subject.inputs(), { backend });
      for (const name of namesOf(subject)) {
        const inputs = subject.inputs();
        if (inputs[name] === undefined) continue;
        inputs[name] = lying(inputs[name] as AnyArray);
        const results = [subject.runSync(inputs, { backend }), await subject.run(inputs, { backend })];
        for (const result of results) {
          expect(bytesIn(result), name).toEqual(bytesIn(expected));
          expect(JSON.stringify(result), name).toBe(JSON.stringify(expected));
        }
      }
    });

    test('arrays that pretend to be of another type are refused', async () => {
      for (const name of namesOf(subject)) {
        const inputs = subject.inputs();
        if (inputs[name] === undefined) continue;
        const lie = pretending(inputs[name] as AnyArray);
        const refusal = { code: 'ERR_DTYPE', message: new RegExp(`^${name}.*: expected .*, got .*Array of length`) };
        await expectRefusal(subject, { ...inputs, [name]: lie }, { backend }, refusal, name);
      }
    });

    test('revoked Proxies are refused, wherever they stand', async () => {
      const refused = async (inputs: unknown, options: unknown, name: string) => {
        for (const call of [subject.runSync, subject.run]) {
          const error = await failureOf(() => call(inputs, options), name);
          expect(error, name).toEqual(rlvrError('ERR_DTYPE', new RegExp(`^${name}: .*, got a revoked Proxy$`)));
        }
      };
      await refused(revoked(), { backend }, '(inputs|batch)');
      if (!subject.name.includes('discriminative')) await refused(subject.inputs(), revoked(), 'options');
      for (const name of namesOf(subject)) {
        await refused({ ...subject.inputs(), [name]: revoked() }, { backend }, name);
        await refused({ ...subject.inputs(), [name]: revoked(new Float64Array(4)) }, { backend }, name);
      }
      for (const [option] of subject.options) {
        for (const target of [{}, [], () => 0]) {
          await refused(subject.inputs(), { backend, [option]: revoked(target) }, option);
        }
      }
    });

    test("an error of the caller's own getter passes through as it is", async () => {
      const own = new Error('mine');
      const get = () => {
        throw own;
      };
      const throwing = (value: object, name: string) =>
        Object.defineProperty({ ...value }, name, { get, enumerable: true });
      for (const call of [subject.runSync, subject.run]) {
        const [name] = Object.keys(subject.inputs());
        expect(await failureOf(() => call(throwing(subject.inputs(), name), { backend }))).toBe(own);
        const [[option]] = subject.options;
        expect(await failureOf(() => call(subject.inputs(), throwing({ backend }, option)))).toBe(own);
      }
    });
  });

  const shapes: Callable = {
    run: rlvr.tokenLogProbs as Call,
    runSync: rlvr.tokenLogProbsSync as Call,
  };
  const targets = Int32Array.of(0);

  test('tensors with parts that cannot be looked at', async () => {
    const data = Float32Array.of(1, 2, 3);
    const cases: [logits: object, name: string, code: string][] = [
      [{ data, shape: revoked([1, 3]) }, 'logits\\.shape', 'ERR_SHAPE'],
      [{ data: revoked(data), shape: [1, 3] }, 'logits\\.data', 'ERR_DTYPE'],
      [{ data, shape: [1, revoked()] }, 'logits\\.shape\\[1\\]', 'ERR_RANGE'],
      [{ data, shape: [1, 3], rowStride: revoked() }, 'logits\\.rowStride', 'ERR_RANGE'],
      [{ data, shape: [1, 3], dtype: revoked() }, 'logits\\.dtype', 'ERR_RANGE'],
    ];
    for (const [logits, name, code] of cases) {
      const refusal = rlvrError(code, new RegExp(`^${name}: expected .*, got a revoked Proxy$`));
      for (const call of [shapes.runSync, shapes.run]) {
        expect(await failureOf(() => call({ logits, targets }, { backend }), name)).toEqual(refusal);
      }
    }
  });

  test('what only looks like a tensor on a device', async () => {
    const refusal = { code: 'ERR_DTYPE', message: /^logits\.data: expected .*, got undefined$/ };
    for (const logits of [
      Object.create(DeviceTensor.prototype),
      new Proxy(Object.create(DeviceTensor.prototype), {}),
    ]) {
      await expectRefusal(shapes, { logits, targets }, { backend }, refusal, 'logits');
    }
  });

  test('a tensor whose rows are longer than any memory', async () => {
    const longest = 2 ** 48;
    const data = Float32Array.of(1, 2, 3);
    const expected = shapes.runSync({ logits: data, targets }, { backend });
    const of = (rowStride: number) => ({ data, shape: [1, 3], rowStride });
    expect(shapes.runSync({ logits: of(longest), targets }, { backend })).toEqual(expected);
    for (const rowStride of [longest + 1, 2 ** 52 + 1, 2 ** 53, 1e300]) {
      const refusal = { code: 'ERR_RANGE', message: /^logits\.rowStride: expected .* at most 281474976710656, got / };
      await expectRefusal(shapes, { logits: of(rowStride), targets }, { backend }, refusal, `${rowStride}`);
      const logits = { data: new Float32Array(), shape: [0, rowStride] };
      const row = { code: 'ERR_RANGE', message: /^logits\.shape\[1\]: expected .* at most 281474976710656, got / };
      await expectRefusal(shapes, { logits, targets: new Int32Array() }, { backend }, row, `${rowStride}`);
    }
  });

  test('an array of the caller for a gradient is written, whatever it says, and returned', () => {
    const inputs = { gradScores: Float64Array.of(2), cuSeqlens: Int32Array.of(0, 2) };
    const ones = Float64Array.of(1, 1);
    const read = (array: AnyArray) => [...Array(2).keys()].map((i) => array[i]);
    const out = lying(new Float64Array(2));
    const [gradient, options] = [{ out }, { backend, gradient: { out } }];
    const ratio = rlvr.ratioScoresBackwardSync({ ...inputs, scoreGrads: ones }, { backend, gradient });
    expect(ratio.gradLogProbs).toBe(out);
    expect(read(out)).toEqual([2, 2]);
    const mean = rlvr.sequenceLogProbsBackwardSync({ ...inputs, tokenCounts: Float64Array.of(2) }, options);
    expect(mean.gradLogProbs).toBe(out);
    expect(read(out)).toEqual([1, 1]);
  });
});

test('group ids are read once each', () => {
  const ids = ['a', 'b'];
  let reads = 0;
  Object.defineProperty(ids, 0, { get: () => (reads++ === 0 ? 'a' : 7), enumerable: true });
  expect(rlvr.fromDense(ids)).toEqual({ cuGroups: Int32Array.of(0, 1, 2), groupOrder: undefined });
  expect(() => rlvr.fromDense(revoked([]) as never)).toThrow(rlvrError('ERR_DTYPE', /^groupIds: .*a revoked Proxy$/));
});

test('a padded batch may be one of getters', () => {
  class Batch {
    get shape() {
      return [1, 2] as const;
    }
    get logProbs() {
      return Float64Array.of(-1, -2);
    }
    get mask() {
      return Uint8Array.of(1, 0);
    }
  }
  expect(rlvr.padded(new Batch())).toEqual({
    logProbs: Float64Array.of(-1, -2),
    mask: Uint8Array.of(1, 0),
    cuSeqlens: Int32Array.of(0, 2),
  });
  const shape = revoked([1, 2]) as never;
  expect(() => rlvr.padded({ shape, mask: new Uint8Array(2), logProbs: new Float64Array(2) })).toThrow(
    rlvrError('ERR_SHAPE', /^shape: .*a revoked Proxy$/),
  );
});

test('a recipe is read once, and its names are names', () => {
  let reads = 0;
  const recipe = {
    score: 'logLikelihood' as const,
    get objective() {
      return reads++ === 0 ? rlvr.infoNCE : (undefined as never);
    },
  };
  const batch = { logProbs: Float64Array.of(-1, -2), cuSeqlens: Int32Array.of(0, 1, 2) };
  const groups = { cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) };
  expect(rlvr.defineLoss(recipe).runSync({ ...batch, ...groups }).loss).toBeGreaterThan(0);
  const bad: [recipe: object, message: RegExp][] = [
    [{ parameters: ['tau', Symbol('s')] }, /^parameters: expected names, got Symbol\(s\) at index 1$/],
    [{ parameters: new Array(2 ** 32 - 1) }, /^parameters: expected names, got undefined at index 0$/],
    [{ objective: revoked(() => 0) }, /^objective: .*a revoked Proxy$/],
    [{ score: revoked(() => 0) }, /^score: .*a revoked Proxy$/],
    [{ defaults: revoked() }, /^defaults: .*a revoked Proxy$/],
  ];
  for (const [change, message] of bad) {
    const call = () => rlvr.defineLoss({ score: 'logLikelihood', objective: rlvr.infoNCE, ...change } as never);
    expect(call).toThrow(rlvrError('ERR_DTYPE', message));
  }
  const odd = Object.setPrototypeOf(['baseline'], {});
  const { runSync } = rlvr.defineLoss({ score: 'logLikelihood', objective: rlvr.infoNCE, parameters: odd });
  expect(runSync({ ...batch, ...groups }, { baseline: 1 } as never).loss).toBeGreaterThan(0);
});

test('shapes without the prototype of arrays', () => {
  const without = (shape: number[]) => Object.setPrototypeOf(shape, {}) as never;
  const batch = { mask: new Uint8Array(2).fill(1), targets: new Int32Array(2) };
  const logits = { data: new Float32Array(6), shape: without([1, 2, 3]) };
  expect(rlvr.padded({ ...batch, shape: without([1, 2]), logits } as never)).toMatchObject({
    logits: { shape: [2, 3] },
  });
  const call = () => rlvr.padded({ ...batch, shape: without([1, 2, 3]), logits } as never);
  expect(call).toThrow(rlvrError('ERR_SHAPE', 'shape: expected [B, L], got [1, 2, 3]'));
});

test('cosineMargin of what is no object', () => {
  const refusal = rlvrError('ERR_DTYPE', /^parameters: expected an object, got /);
  for (const parameters of [null, 7, 'fast', [], new Float64Array(2), () => 0, revoked()]) {
    expect(() => rlvr.cosineMargin(parameters as never)).toThrow(refusal);
  }
});

test('a gradient whose getter takes an array away', () => {
  for (const key of ['data', 'shape', 'dtype', 'rowStride'] as const) {
    const rewards = Float64Array.of(1, 0);
    const logits = () => ({
      data: new Float32Array(4),
      shape: [2, 2] as [number, number],
      dtype: 'f32' as const,
      rowStride: 2,
    });
    const cuSeqlens = Int32Array.of(0, 1, 2);
    const batch = { logits: logits(), targets: new Int32Array(2), cuSeqlens, cuGroups: Int32Array.of(0, 2), rewards };
    const out = logits();
    const value = out[key];
    const get = () => {
      if (rewards.length > 0) structuredClone(rewards.buffer, { transfer: [rewards.buffer] });
      return value;
    };
    Object.defineProperty(out, key, { get, enumerable: true });
    const detached = rlvrError('ERR_DTYPE', /^rewards: expected a non-detached array, got /);
    expect(() => rlvr.grpoSync(batch, { gradient: { out } }), key).toThrow(detached);
    expect(Array.from(out.data), key).toEqual([0, 0, 0, 0]);
  }
});

test('advantages whose option takes the rewards away', () => {
  const rewards = Float64Array.of(1, 0);
  const options = {
    get eps() {
      if (rewards.length > 0) structuredClone(rewards.buffer, { transfer: [rewards.buffer] });
      return 0;
    },
  };
  const detached = rlvrError('ERR_DTYPE', /^rewards: expected a non-detached array, got /);
  expect(() => rlvr.advantages({ rewards, cuGroups: Int32Array.of(0, 2) }, options)).toThrow(detached);
});

test('an objective that is no generator function, and an option of its own that is a revoked Proxy', () => {
  const batch = {
    logProbs: Float64Array.of(-1, -2),
    cuSeqlens: Int32Array.of(0, 1, 2),
    cuGroups: Int32Array.of(0, 2),
    rewards: Float64Array.of(1, 0),
  };
  for (const returned of [0, undefined, null, {}]) {
    const loss = rlvr.defineLoss({ score: 'logLikelihood', objective: (() => returned) as never });
    const refusal = rlvrError('ERR_DTYPE', /^objective: expected a generator function, got one that returned /);
    expect(() => loss.runSync(batch as never)).toThrow(refusal);
  }
  const empty = rlvr.defineLoss({ score: 'logLikelihood', objective: function* () {} as never });
  const nothing = rlvrError(
    'ERR_DTYPE',
    /^objective: expected a generator of \{ evaluate \}, got one that returned undefined/,
  );
  expect(() => empty.runSync(batch as never)).toThrow(nothing);
  const loss = rlvr.defineLoss({ score: 'logLikelihood', objective: (() => 0) as never });
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const refusal = rlvrError('ERR_DTYPE', /^rolloutCorrection: expected a value, got a revoked Proxy/);
  expect(() => loss.runSync(batch as never, { rolloutCorrection: proxy } as never)).toThrow(refusal);
});

test('a score whose getter takes an array away', () => {
  const batchOf = (logProbs: Float64Array) => ({
    logProbs,
    cuSeqlens: Int32Array.of(0, 1, 2),
    cuGroups: Int32Array.of(0, 2),
    rewards: Float64Array.of(1, 0),
  });
  const thief = (logProbs: Float64Array) => ({
    get kind(): 'ratio' {
      if (logProbs.byteLength > 0) structuredClone(logProbs.buffer, { transfer: [logProbs.buffer as ArrayBuffer] });
      return 'ratio';
    },
  });
  const detached = rlvrError('ERR_DTYPE', /^logProbs: expected a non-detached array, got /);
  const first = Float64Array.of(-1, -2);
  expect(() => rlvr.forwardSync(batchOf(first), thief(first))).toThrow(detached);
  const second = Float64Array.of(-1, -2);
  const loss = rlvr.defineLoss({ score: () => thief(second), objective: rlvr.infoNCE });
  expect(() => loss.runSync(batchOf(second))).toThrow(detached);
});

test('a property __proto__, as JSON.parse makes it, is no prototype of the options', () => {
  const inputs = { logits: Float32Array.of(0, 1, 2), targets: Int32Array.of(0) };
  const options = JSON.parse('{ "__proto__": { "temperature": 2 } }');
  expect(rlvr.tokenLogProbsSync(inputs, options)).toEqual(rlvr.tokenLogProbsSync(inputs));
});
