// Hidden states that are degenerate, and calls from hidden states that are refused or cut short.
import { describe, expect, test } from 'vitest';
import {
  type BackendName,
  type HostTensor,
  linearLogProbs,
  linearLogProbsBackward,
  linearLogProbsBackwardSync,
  linearLogProbsSync,
} from '../lib/index.js';
import { childJson } from './boundary/child.js';
import { describeBackends } from './support/backends.js';
import { expectClose } from './support/compare.js';
import { rlvrError } from './support/errors.js';
import { linearBatch, linearOracle } from './support/linear-rows.js';
import { type Call, expectRefusal } from './support/refusals.js';
import { DTYPES, hostTensor } from './support/tensors.js';

const NAMES = ['gradHidden', 'gradWeight', 'gradBias'] as const;
const backwardCalls = { run: linearLogProbsBackward as Call, runSync: linearLogProbsBackwardSync as Call };
const forwardCalls = { run: linearLogProbs as Call, runSync: linearLogProbsSync as Call };

const SHAPE = { tokens: 6, vocab: 35, width: 4 };

/** A batch of plain arrays. */
function plainBatch(seed = 1) {
  const { hidden, weight, bias, targets, gradLogProbs, gradEntropy } = linearBatch(seed, SHAPE);
  const plain = (tensor: HostTensor) => tensor.data as Float32Array;
  const layer = { hidden: plain(hidden), weight: plain(weight), bias: plain(bias!), targets };
  return { ...layer, gradLogProbs: gradLogProbs.map((g) => g || 1), gradEntropy };
}

/** With what the forward pass gives. */
function backwardInputs(batch: ReturnType<typeof plainBatch>, backend: BackendName, more: object = {}) {
  const { logSumExp, entropy } = linearLogProbsSync(batch, { backend, entropy: true, onNonFinite: 'skip', ...more });
  return { ...batch, logSumExp, entropy: entropy! };
}

const put = (array: Float32Array, at: number, value: number) => {
  array[at] = value;
};

describeBackends('hidden states', (backend) => {
  describe('that are degenerate', () => {
    test('a bias of -Infinity bans tokens: p = 0, and no gradient', () => {
      const batch = linearBatch(2, SHAPE);
      const banned = [0, 8, 34].filter((v) => !batch.targets.includes(v));
      for (const v of banned) put(batch.bias!.data as Float32Array, v, -Infinity);
      const { logProbs, logSumExp, entropy } = linearLogProbsSync(batch, { entropy: true, backend });
      const expected = linearOracle(batch, 1);
      expectClose(logProbs, expected.logProbs, 1e-6);
      expectClose(entropy!, expected.entropy, 1e-6);
      const inputs = { ...batch, logSumExp, entropy };
      const { gradHidden, gradWeight, gradBias } = linearLogProbsBackwardSync(inputs, { backend });
      expectClose(gradHidden.data, expected.gradHidden, 1e-5);
      for (const v of banned) {
        expect(gradBias!.data[v]).toBe(0);
        expect(Array.from(gradWeight.data.subarray(4 * v, 4 * v + 4))).toEqual([0, 0, 0, 0]);
      }
    });

    const BROKEN: [what: string, rows: number[], (batch: ReturnType<typeof plainBatch>) => void][] = [
      ['NaN in a hidden state', [2], ({ hidden }) => put(hidden, 2 * 4 + 1, NaN)],
      ['Infinity in a hidden state', [4], ({ hidden }) => put(hidden, 4 * 4, Infinity)],
      ['NaN in the weight', [0, 1, 2, 3, 4, 5], ({ weight }) => put(weight, 17, NaN)],
      ['Infinity in the bias', [0, 1, 2, 3, 4, 5], ({ bias }) => put(bias, 34, Infinity)],
      ['a banned target', [3], ({ bias, targets }) => put(bias, targets.fill(1).fill(2, 3, 4)[3], -Infinity)],
      ['nothing but banned tokens', [0, 1, 2, 3, 4, 5], ({ bias }) => void bias.fill(-Infinity)],
    ];
    test.each(BROKEN)('%s: an error that names the first row, or dropped', async (_what, rows, spoil) => {
      const batch = plainBatch();
      spoil(batch);
      const got = `got ${rows.length} non-finite row(s), the first at row ${rows[0]}`;
      const message = new RegExp(`^hidden: expected log-probs that are finite .*${got.replace(/[()]/g, '\\$&')}$`);
      await expectRefusal(forwardCalls, batch, { backend }, { code: 'ERR_NONFINITE', message }, got);
      const skipped = linearLogProbsSync(batch, { backend, entropy: true, onNonFinite: 'skip' });
      expect(skipped.nonFiniteTokens).toBe(rows.length);
      expect(Array.from(skipped.mask!, Boolean)).toEqual([0, 1, 2, 3, 4, 5].map((t) => !rows.includes(t)));
      const { logProbs, logSumExp, entropy } = skipped;
      for (const t of rows) expect([logProbs[t], logSumExp[t], entropy![t]]).toEqual([0, 0, 0]);
    });

    test('masked rows, and rows without a gradient, are never read', () => {
      const batch = { ...plainBatch(), gradEntropy: undefined };
      const mask = Uint8Array.of(1, 0, 1, 1, 1, 1);
      const gradLogProbs = Float64Array.of(1, 2, 0, -1, 3, 1);
      const { logSumExp } = linearLogProbsSync({ ...batch, mask }, { backend });
      const expected = linearLogProbsBackwardSync({ ...batch, mask, gradLogProbs, logSumExp }, { backend });
      expect(Array.from(expected.gradHidden.subarray(4, 12))).toEqual(new Array(8).fill(0));
      batch.hidden.fill(NaN, 4, 12);
      expect(linearLogProbsBackwardSync({ ...batch, mask, gradLogProbs, logSumExp }, { backend })).toEqual(expected);
      put(batch.hidden, 8, 1);
      const { logProbs } = linearLogProbsSync({ ...batch, mask: Uint8Array.of(1, 0, 0, 1, 1, 1) }, { backend });
      expect(Array.from(logProbs.subarray(1, 3))).toEqual([0, 0]);
    });

    test('everything masked: zeros, and sums that stay what they are', () => {
      const batch = { ...plainBatch(), mask: new Uint8Array(6) };
      batch.hidden.fill(NaN);
      const { logProbs, logSumExp, nonFiniteTokens } = linearLogProbsSync(batch, { backend });
      expect([Array.from(logProbs), nonFiniteTokens]).toEqual([[0, 0, 0, 0, 0, 0], 0]);
      const inputs = { ...batch, logSumExp, entropy: logSumExp };
      const zeros = linearLogProbsBackwardSync(inputs, { backend });
      for (const name of NAMES) expect(zeros[name]!.every((x) => Object.is(x, 0))).toBe(true);
      const sum = Float32Array.from(batch.weight);
      linearLogProbsBackwardSync(inputs, { backend, gradWeight: { accumulate: sum } });
      expect(sum).toEqual(batch.weight);
    });

    test('no tokens: from arrays and tensors, with a bias and without', () => {
      const none = { targets: new Int32Array(0), logSumExp: new Float64Array(0), gradLogProbs: new Float64Array(0) };
      const tensor = { data: new Float32Array(0), shape: [0, 4] as const };
      const { weight, bias } = plainBatch();
      for (const hidden of [new Float32Array(0), tensor]) {
        for (const own of [weight, hostTensor(weight, [35, 4], 'bf16')]) {
          for (const more of [{}, { bias }]) {
            const inputs = { hidden, weight: own, ...more, ...none };
            expect(linearLogProbsSync(inputs, { backend }).logProbs).toEqual(new Float64Array(0));
            const { gradHidden, gradWeight, gradBias } = linearLogProbsBackwardSync(inputs, { backend });
            expect(gradHidden).toEqual(hidden instanceof Float32Array ? hidden : expect.objectContaining(tensor));
            const written = gradWeight instanceof Float32Array ? gradWeight : gradWeight.data;
            expect(written.length).toBe(140);
            expect([...written, ...(gradBias ?? [])].every((x) => x === 0)).toBe(true);
          }
        }
      }
    });

    test('one token of one id and one unit', () => {
      const one = { hidden: Float32Array.of(2), weight: Float32Array.of(3), targets: Int32Array.of(0) };
      const { logProbs, logSumExp } = linearLogProbsSync(one, { backend });
      expect([logProbs[0], logSumExp[0]]).toEqual([0, 6]);
      const inputs = { ...one, logSumExp, gradLogProbs: Float64Array.of(5) };
      const { gradHidden, gradWeight } = linearLogProbsBackwardSync(inputs, { backend });
      expect([gradHidden[0], gradWeight[0]]).toEqual([0, 0]);
    });
  });

  describe('whose gradient is not finite', () => {
    const nonFinite = (name: string, got: string) => ({
      code: 'ERR_NONFINITE',
      message: new RegExp(`^${name}: expected a finite gradient.*, got ${got}`),
    });

    test('for what comes from upstream: nothing is written', async () => {
      const inputs = backwardInputs(plainBatch(), backend);
      const gradLogProbs = Float64Array.of(0, 1, 1e39, 1, 1, 1e300);
      const outs = {
        gradHidden: { out: new Float32Array(24).fill(7) },
        gradWeight: { accumulate: new Float32Array(140).fill(7) },
      };
      const refusal = nonFinite('gradLogProbs', 'one beyond float32 at row 2: ');
      await expectRefusal(backwardCalls, { ...inputs, gradLogProbs }, { backend, ...outs }, refusal, 'upstream');
      expect(
        Object.values(outs)
          .flatMap((option) => Object.values(option))
          .every((x) => x.every((y) => y === 7)),
      ).toBe(true);
    });

    test('each, named with its first row', () => {
      const spoilt = (spoil: (batch: ReturnType<typeof plainBatch>) => void) => {
        const inputs = backwardInputs(plainBatch(), backend);
        spoil(inputs);
        return inputs;
      };
      const run =
        (inputs: ReturnType<typeof spoilt>, options = {}) =>
        () =>
          linearLogProbsBackwardSync(inputs, { backend, ...options });
      const refused = (name: string, row: number) =>
        rlvrError('ERR_NONFINITE', `${name}: expected a finite gradient, got another at row ${row}: `);
      const hidden = spoilt((batch) => put(batch.hidden, 9, NaN));
      expect(run(hidden)).toThrow(refused('gradHidden', 2));
      expect(run(hidden, { gradHidden: 'none' })).toThrow(refused('gradWeight', 0));
      expect(run(hidden, { gradHidden: 'none', gradWeight: 'none' })).toThrow(refused('gradBias', 0));
      const sum = new Float32Array(140);
      put(sum, 4 * 20 + 1, Infinity);
      expect(
        run(
          spoilt(() => {}),
          { gradWeight: { accumulate: sum } },
        ),
      ).toThrow(refused('gradWeight', 20));
    });

    test('beyond the range of its own dtype', () => {
      const batch = { ...plainBatch(), gradLogProbs: new Float64Array(6).fill(1e6) };
      const inputs = backwardInputs(batch, backend);
      const out = (dtype: 'bf16' | 'f16') => ({ out: hostTensor(new Float32Array(140), [35, 4], dtype) });
      linearLogProbsBackwardSync(inputs, { backend, gradWeight: out('bf16') });
      expect(() => linearLogProbsBackwardSync(inputs, { backend, gradWeight: out('f16') })).toThrow(
        /^gradWeight: .*its dtype/,
      );
    });
  });

  describe('refused', () => {
    const inputs = () => backwardInputs(plainBatch(), backend);

    test.each([
      ['hidden', new Float32Array(25), 'ERR_SHAPE', 'hidden: expected a multiple of 6 elements (T * d), got 25'],
      ['hidden', new Float32Array(0), 'ERR_SHAPE', 'hidden: expected a multiple of 6 elements (T * d), got 0'],
      ['weight', new Float32Array(139), 'ERR_SHAPE', 'weight: expected a multiple of 4 elements (V * d), got 139'],
      ['weight', new Float32Array(0), 'ERR_SHAPE', 'weight: expected a multiple of 4 elements (V * d), got 0'],
      ['bias', new Float32Array(34), 'ERR_SHAPE', 'bias: expected length 35, [1, V] = [1, 35], got length 34'],
      [
        'hidden',
        { data: new Float32Array(28), shape: [7, 4] },
        'ERR_SHAPE',
        'hidden.shape: expected [T, d] = [6, 4], got [7, 4]',
      ],
      [
        'weight',
        { data: new Float32Array(140), shape: [28, 5] },
        'ERR_SHAPE',
        'hidden: expected length 30, [T, d] = [6, 5], got length 24',
      ],
      ['weight', { data: new Float32Array(4), shape: [4] }, 'ERR_SHAPE', 'weight.shape: expected [V, d], got an Array'],
      [
        'bias',
        { data: new Float32Array(35), shape: [35, 1] },
        'ERR_SHAPE',
        'bias.shape: expected [1, V] = [1, 35], got [35, 1]',
      ],
      ['weight', { data: new Float32Array(3), shape: [35, 4] }, 'ERR_SHAPE', 'weight.data: expected at least 140'],
      ['weight', new Uint16Array(140), 'ERR_DTYPE', 'weight: expected { data, shape, dtype'],
    ])('%s: %#', async (name, value, code, text) => {
      const message = new RegExp(`^${text.replace(/[()[\]*.{}]/g, '\\$&')}`);
      for (const calls of [forwardCalls, backwardCalls]) {
        await expectRefusal(calls, { ...inputs(), [name]: value }, { backend }, { code, message }, text);
      }
    });

    test('a weight without rows for tokens that there are', async () => {
      const weight = { data: new Float32Array(0), shape: [0, 4] };
      const refusal = { code: 'ERR_SHAPE', message: /^weight: expected at least one row/ };
      const given = { ...inputs(), weight, bias: undefined, mask: new Uint8Array(6) };
      await expectRefusal(forwardCalls, given, { backend }, refusal, 'V = 0');
    });

    test.each([
      [
        'out of another length',
        { gradWeight: { out: new Float32Array(141) } },
        /^gradWeight\.out: expected length 140, \[V, d\] = \[35, 4\], got length 141$/,
      ],
      [
        'a sum of another shape',
        { gradHidden: { accumulate: { data: new Float32Array(24), shape: [4, 6] } } },
        /^gradHidden\.accumulate\.shape: expected \[T, d\] = \[6, 4\], got \[4, 6\]$/,
      ],
      ['float64', { gradBias: { out: new Float64Array(35) } }, /^gradBias\.out\.data: expected Float32Array/],
      [
        'both out and a sum',
        { gradBias: { out: new Float32Array(35), accumulate: new Float32Array(35) } },
        /^gradBias: expected 'new', 'none', \{ out \} or \{ accumulate \}, got an object/,
      ],
      ['in place', { gradHidden: 'in-place' }, /^gradHidden: expected 'new', 'none', .*, got "in-place"$/],
      [
        'a misspelt option',
        { gradWeights: 'none' },
        /^gradWeights: no such option of linearLogProbsBackward; did you mean gradWeight\?$/,
      ],
      [
        'a misspelt way',
        { gradWeight: { acumulate: new Float32Array(140) } },
        /^gradWeight\.acumulate: no such option/,
      ],
    ])('a gradient: %s', async (what, options, message) => {
      for (const copyInputs of [false, true]) {
        const error = expect.objectContaining({ name: 'RlvrError', message: expect.stringMatching(message) });
        await expect(
          linearLogProbsBackward(inputs(), { backend, copyInputs, ...(options as object) }),
          what,
        ).rejects.toEqual(error);
      }
      expect(() => linearLogProbsBackwardSync(inputs(), { backend, ...(options as object) })).toThrow(message);
    });

    test('the gradient of a bias that is not there', async () => {
      const refusal = { code: 'ERR_RANGE', message: /^gradBias: expected 'none', as there is no bias, got / };
      const without = { ...inputs(), bias: undefined };
      for (const gradBias of ['new', { out: new Float32Array(35) }]) {
        await expectRefusal(backwardCalls, without, { backend, gradBias }, refusal, 'gradBias');
      }
      expect(Object.keys(linearLogProbsBackwardSync(without, { backend, gradBias: 'none' }))).toEqual([
        'gradHidden',
        'gradWeight',
      ]);
    });
  });

  describe('gradients in the memory of something else', () => {
    const [T, V, d] = [SHAPE.tokens, SHAPE.vocab, SHAPE.width];
    const shapes = { gradHidden: [T, d], gradWeight: [V, d], gradBias: [1, V] } as const;
    const refused = (name: string, other: string) => ({
      code: 'ERR_RANGE',
      message: new RegExp(`^${name}: expected memory apart from ${other}, got an overlap$`),
    });

    /** A view of an input's memory that is large enough, whatever is in it; `inputs` has the input there too. */
    function over(
      name: string,
      inputs: Record<string, Float32Array>,
      shape: readonly [number, number],
      shared: boolean,
    ) {
      const array = inputs[name];
      const bytes = Math.max(array.byteLength, 4 * shape[0] * shape[1]) + 8;
      const memory = shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
      const moved = new (array.constructor as Float32ArrayConstructor)(memory as ArrayBuffer, 0, array.length);
      moved.set(array);
      const again = shared ? structuredClone(memory) : memory; // as from a message: another buffer on the same memory
      const out = new Float32Array(again as ArrayBuffer, 4 * Math.ceil(array.byteLength / 4 - 1), 1);
      const data = new Float32Array(again as ArrayBuffer, 0, shape[0] * shape[1]);
      expect(out.length).toBe(1);
      return { inputs: { ...inputs, [name]: moved }, out: { data, shape } };
    }

    test('of every input, on one buffer or on two of the same memory', async () => {
      const given = backwardInputs(plainBatch(), backend) as unknown as Record<string, Float32Array>;
      const all = { ...given, mask: new Uint8Array(T).fill(1) as unknown as Float32Array };
      for (const shared of [false, true]) {
        for (const input of Object.keys(all)) {
          for (const name of NAMES) {
            for (const key of ['out', 'accumulate']) {
              const { inputs, out } = over(input, all, shapes[name], shared);
              const options = { backend, [name]: { [key]: out } };
              await expectRefusal(backwardCalls, inputs, options, refused(name, input), `${name}.${key} over ${input}`);
            }
          }
        }
      }
    });

    test('of a tensor, from its last element on', async () => {
      const memory = new Float32Array(200);
      const weight = { data: memory.subarray(0, 35 * 4), shape: [35, 4] as const };
      const inputs = { ...backwardInputs(plainBatch(), backend), weight };
      const options = (begin: number) => ({ backend, gradHidden: { out: memory.subarray(begin, begin + 24) } });
      await expectRefusal(backwardCalls, inputs, options(139), refused('gradHidden', 'weight'), 'the last element');
      expect(() => linearLogProbsBackwardSync(inputs, options(140))).not.toThrow();
    });

    test('of one another, copied or not', async () => {
      const memory = new Float32Array(140 + 24);
      const overlapping = {
        gradHidden: { out: memory.subarray(0, 24) },
        gradWeight: { accumulate: memory.subarray(23, 163) },
      };
      const given = backwardInputs(plainBatch(), backend);
      const refusal = refused('gradWeight', 'gradHidden');
      await expectRefusal(backwardCalls, given, { backend, ...overlapping }, refusal, 'overlapping');
      const copied = linearLogProbsBackward(given, { backend, copyInputs: true, ...overlapping });
      await expect(copied).rejects.toEqual(rlvrError(refusal.code, refusal.message));
      expect(memory.every((x) => x === 0)).toBe(true);
      const beside = { gradHidden: overlapping.gradHidden, gradWeight: { accumulate: memory.subarray(24) } };
      const expected = linearLogProbsBackwardSync(given, { backend });
      const { gradWeight } = linearLogProbsBackwardSync(given, { backend, ...beside });
      expect(gradWeight).toEqual(expected.gradWeight);
    });
  });

  describe('in asynchronous calls', () => {
    test.each(DTYPES)('the same bits as in blocking ones: %s', async (dtype) => {
      const batch = linearBatch(3, { tokens: 50, vocab: 1100, width: 30 }, { dtypes: [dtype, dtype, dtype] });
      const options = { backend, entropy: true, temperature: 0.9 };
      const forward = linearLogProbsSync(batch, options);
      expect(await linearLogProbs(batch, options)).toEqual(forward);
      const inputs = { ...batch, logSumExp: forward.logSumExp, entropy: forward.entropy! };
      const { entropy: _, ...own } = options;
      expect(await linearLogProbsBackward(inputs, own)).toEqual(linearLogProbsBackwardSync(inputs, own));
    });

    test('copyInputs: outputs and sums are written at the end, whatever happens to the inputs', async () => {
      for (const dtype of ['f32', 'bf16'] as const) {
        const given = () => {
          const { hidden, weight, bias, ...rest } = backwardInputs(plainBatch(), backend);
          if (dtype === 'f32') return { ...rest, hidden, weight, bias };
          const tensors = { hidden: hostTensor(hidden, [6, 4], dtype, 1), weight: hostTensor(weight, [35, 4], dtype) };
          return { ...rest, ...tensors, bias: hostTensor(bias, [1, 35], dtype) };
        };
        const before = Float32Array.from({ length: 140 }, (_, i) => i / 8);
        const outs = () => ({
          gradHidden: { out: new Float32Array(24) },
          gradWeight: { accumulate: hostTensor(before, [35, 4], dtype, 2) },
        });
        const expected = linearLogProbsBackwardSync(given(), { backend, ...outs() });
        const [inputs, own] = [given(), outs()];
        const untouched = own.gradWeight.accumulate.data.slice();
        const pending = linearLogProbsBackward(inputs, { backend, copyInputs: true, ...own });
        for (const value of Object.values(inputs)) ('data' in value ? value.data : value).fill(77);
        expect(own.gradHidden.out.every((x) => x === 0)).toBe(true);
        expect(own.gradWeight.accumulate.data).toEqual(untouched);
        const result = await pending;
        expect(result).toEqual(expected);
        expect([result.gradHidden, result.gradWeight]).toEqual([own.gradHidden.out, own.gradWeight.accumulate]);
        expect(result.gradWeight).toBe(own.gradWeight.accumulate);
      }
    });

    test('copyInputs: an output over an input gets the gradient of what it was', async () => {
      const expected = linearLogProbsBackwardSync(backwardInputs(plainBatch(), backend), { backend });
      const inputs = backwardInputs(plainBatch(), backend);
      const options = { backend, copyInputs: true, gradHidden: { out: inputs.hidden } };
      const { gradHidden } = await linearLogProbsBackward(inputs, options);
      expect(gradHidden).toBe(inputs.hidden);
      expect(gradHidden).toEqual(expected.gradHidden);
    });

    test('aborted: with copyInputs nothing has been written', async () => {
      const controller = new AbortController();
      const { signal } = controller;
      const out = new Float32Array(24);
      const inputs = backwardInputs(plainBatch(), backend);
      const options = { backend, signal, copyInputs: true, gradHidden: { out } };
      const pending = [linearLogProbs(inputs, { backend, signal }), linearLogProbsBackward(inputs, options)];
      controller.abort();
      await Promise.all(pending.map((each) => expect(each).rejects.toMatchObject({ code: 'ERR_ABORTED' })));
      expect(out.every((x) => x === 0)).toBe(true);
    });

    test('memory taken away meanwhile is named', async () => {
      const alive: unknown[] = [];
      const detach = (array: ArrayBufferView) =>
        alive.push(structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] }));
      const gone = (name: string) => rlvrError('ERR_DTYPE', `${name}: expected an array that keeps its memory`);
      const tensor = (data: Float32Array, shape: readonly [number, number]) => ({ data: data.slice(), shape });
      const make = () => {
        const { hidden, weight, bias, ...rest } = structuredClone(backwardInputs(plainBatch(), backend));
        return {
          ...rest,
          hidden: tensor(hidden, [6, 4]),
          weight: tensor(weight, [35, 4]),
          bias: tensor(bias, [1, 35]),
        };
      };
      for (const name of ['hidden', 'weight', 'bias'] as const) {
        const inputs = make();
        const pending = [linearLogProbs(inputs, { backend }), linearLogProbsBackward(inputs, { backend })];
        detach(inputs[name].data);
        await Promise.all(pending.map((each) => expect(each, name).rejects.toEqual(gone(name))));
      }
      for (const [name, key, length] of [
        ['gradHidden', 'out', 24],
        ['gradWeight', 'accumulate', 140],
        ['gradBias', 'out', 35],
      ] as const) {
        const data = new Float32Array(length);
        const pending = linearLogProbsBackward(make(), { backend, [name]: { [key]: data } });
        detach(data);
        await expect(pending).rejects.toEqual(gone(`${name}.${key}`));
        const kept = new Float32Array(length);
        const copied = linearLogProbsBackward(make(), { backend, copyInputs: true, [name]: { [key]: kept } });
        detach(kept);
        await expect(copied).rejects.toEqual(gone(`${name}.${key}`));
      }
    });
  });
});

test('without the addon nothing tells addresses: gradients are right in shared memory all the same', async () => {
  const { right } = await childJson<{ right: boolean[] }>(
    `const values = (length) => Float32Array.from({ length }, (_, i) => ((i * 2654435761) >>> 24) / 99 - 1);
    const backend = 'reference'; // does not load it
    const inputs = { hidden: values(12), weight: values(15), targets: Int32Array.of(0, 4, 2, 1), gradLogProbs: Float64Array.of(1, 2, -1, 3) };
    const { logSumExp } = rlvr.linearLogProbsSync(inputs, { backend });
    const expected = rlvr.linearLogProbsBackwardSync({ ...inputs, logSumExp }, { backend });
    const right = [];
    for (const key of ['out', 'accumulate']) {
      const memory = new SharedArrayBuffer(80);
      const weight = new Float32Array(memory, 0, 15);
      weight.set(inputs.weight);
      const to = new Float32Array(structuredClone(memory), 0, 15);
      const options = { backend, gradWeight: { [key]: { data: to, shape: [5, 3] } } };
      const { gradWeight } = rlvr.linearLogProbsBackwardSync({ ...inputs, weight, logSumExp }, options);
      const sum = expected.gradWeight.map((x, i) => (key === 'out' ? x : Math.fround(x + inputs.weight[i])));
      right.push(gradWeight.data === to && sum.every((x, i) => Math.abs(x - to[i]) < 1e-6));
    }
    console.log(JSON.stringify({ right }));`,
  );
  expect(right).toEqual([true, true]);
});
