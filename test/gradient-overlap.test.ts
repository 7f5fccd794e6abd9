// Where a gradient may go: not into memory of an input, on one buffer or on two of the same shared memory; in place, and
// anywhere beside the inputs, however closely.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { childJson } from './boundary/child.js';
import { describeBackends } from './support/backends.js';
import { failureOf, rlvrError } from './support/errors.js';
import { fromLogProbs, fullBatch, NAMED_LOSSES } from './support/named-losses.js';
import { bytesIn, type Call, type Callable, expectRefusal, type Fields } from './support/refusals.js';

type AnyArray = Float32Array | Float64Array | Int32Array | Uint8Array;

declare const WebAssembly: {
  Memory: new (options: object) => { buffer: ArrayBufferLike; grow(pages: number): number };
};

interface Subject extends Callable {
  name: string;
  inputs: Fields;
  out: AnyArray; // of the type and length of the gradient
}

const batch = fullBatch(5, { groups: 3 });
const { logits, targets, mask, cuSeqlens } = batch;
const T = targets.length;
const given = fromLogProbs(batch);
const { logProbs, logSumExp, entropy } = rlvr.tokenLogProbsSync({ logits, targets, mask }, { entropy: true });
const { scores, tokenCounts } = rlvr.sequenceLogProbsSync({ logProbs, cuSeqlens, mask });
const { scoreGrads } = rlvr.ratioScoresSync({ logProbs, cuSeqlens, mask });
const groupOrder = Int32Array.from(batch.rewards, (_, i) => i).reverse();
const advantages = Float64Array.from(batch.rewards, (reward) => reward - 0.5);

const OPS: Subject[] = [
  {
    name: 'tokenLogProbsBackward',
    run: rlvr.tokenLogProbsBackward as Call,
    runSync: rlvr.tokenLogProbsBackwardSync as Call,
    inputs: { logits, targets, mask, logSumExp, gradLogProbs: logProbs, entropy, gradEntropy: logProbs.slice() },
    out: new Float32Array(logits.length),
  },
  {
    name: 'sequenceLogProbsBackward',
    run: rlvr.sequenceLogProbsBackward as Call,
    runSync: rlvr.sequenceLogProbsBackwardSync as Call,
    inputs: { gradScores: scores, tokenCounts, cuSeqlens, mask },
    out: new Float64Array(T),
  },
  {
    name: 'ratioScoresBackward',
    run: rlvr.ratioScoresBackward as Call,
    runSync: rlvr.ratioScoresBackwardSync as Call,
    inputs: { gradScores: scores, scoreGrads, cuSeqlens },
    out: new Float64Array(T),
  },
];
const LOSSES: Subject[] = NAMED_LOSSES.flatMap(({ name, over, options, run, runSync }) => {
  const more = { groupOrder, ...(over === 'advantages' && { advantages }) };
  const calls = {
    run: (inputs: unknown, own: object) => run(inputs as never, { ...options, ...own }),
    runSync: (inputs: unknown, own: object) => runSync(inputs as never, { ...options, ...own }),
  } as Callable;
  return [
    { name: `${name} of logits`, inputs: { ...batch, ...more }, out: new Float32Array(logits.length), ...calls },
    { name: `${name} of log-probs`, inputs: { ...given, ...more }, out: new Float64Array(T), ...calls },
    { name: `${name} of log-probs, float32`, inputs: { ...given, ...more }, out: new Float32Array(T), ...calls },
  ];
});
const SUBJECTS = [...OPS, ...LOSSES];

function at<A extends AnyArray>(like: A, buffer: ArrayBufferLike, offset: number): A {
  return new (like.constructor as new (b: ArrayBufferLike, o: number, n: number) => A)(buffer, offset, like.length);
}

const MEMORY: [string, (bytes: number) => [ArrayBufferLike, ArrayBufferLike]][] = [
  ['one buffer', (bytes) => new Array(2).fill(new ArrayBuffer(bytes)) as [ArrayBuffer, ArrayBuffer]],
  ['shared memory, received twice', (bytes) => twice(new SharedArrayBuffer(bytes))],
  ['a grown WebAssembly memory', grown],
];

function twice(memory: SharedArrayBuffer): [SharedArrayBuffer, SharedArrayBuffer] {
  const again = structuredClone(memory);
  expect(again).not.toBe(memory);
  return [memory, again];
}

function grown(bytes: number): [ArrayBufferLike, ArrayBufferLike] {
  const pages = Math.ceil(bytes / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages + 1, shared: true });
  const before = memory.buffer;
  memory.grow(1);
  return [before, memory.buffer];
}

const START = 32; // of `out` in its memory

/** `out` and an input in one memory, the input from byte `from` on. */
function placed({ inputs, out }: Subject, name: string, memory: (typeof MEMORY)[number][1], from: number) {
  const input = inputs[name] as AnyArray;
  const [one, other] = memory(START + out.byteLength + input.byteLength + 32);
  const moved = at(input, other, from);
  moved.set(input as never);
  return { inputs: { ...inputs, [name]: moved }, out: at(out, one, START) };
}

const arraysOf = ({ inputs }: Subject) => Object.keys(inputs).filter((name) => ArrayBuffer.isView(inputs[name]));
/** `gradient: 'in-place'` is the same as `out` in this place. */
const isInPlace = ({ inputs, out }: Subject, name: string) =>
  name === 'logits' || (name === 'logProbs' && out.constructor === inputs.logProbs?.constructor);
const apartFrom = (name: string) =>
  /^log(its|Probs)$/.test(name)
    ? /^gradient\.out: expected the log(its|-probs) themselves or memory apart from them, got a partial overlap$/
    : new RegExp(`^gradient\\.out: expected memory apart from ${name}, got an overlap$`);

describeBackends('out in the memory of an input is refused', (backend) => {
  describe.each(MEMORY)('%s', (_where, memory) => {
    test('in ops, wherever they overlap', async () => {
      for (const subject of OPS) {
        for (const name of arraysOf(subject)) {
          const last = START + subject.out.byteLength - 1;
          for (const from of [...(isInPlace(subject, name) ? [] : [START]), START + 8, last - (last % 8)]) {
            const { inputs, out } = placed(subject, name, memory, from);
            const refusal = { code: 'ERR_RANGE', message: apartFrom(name) };
            await expectRefusal(subject, inputs, { backend, gradient: { out } }, refusal, `${name} from ${from}`);
          }
        }
      }
    });

    test('in losses', async () => {
      for (const subject of LOSSES) {
        for (const name of arraysOf(subject).filter((name) => !isInPlace(subject, name))) {
          const { inputs, out } = placed(subject, name, memory, START);
          const before = bytesIn(out);
          const what = `${subject.name}: ${name}`;
          const error = await failureOf(() => subject.runSync(inputs, { backend, gradient: { out } }), what);
          expect(error, what).toEqual(rlvrError('ERR_RANGE', apartFrom(name)));
          expect(bytesIn(out), what).toEqual(before);
        }
      }
    });
  });

  test.each(SUBJECTS.map((subject, number) => [subject.name, subject, number] as const))(
    'but not right beside it: %s',
    (_name, subject, number) => {
      const expected = subject.runSync(subject.inputs, { backend }) as object;
      // The emulation is slow: there, each array with a quarter of the losses.
      const isSlow = backend === 'cuda' && subject.name.endsWith('of logits');
      for (const name of arraysOf(subject).filter((_, i) => !isSlow || (i + number) % 4 === 0)) {
        const beside = START + Math.ceil(subject.out.byteLength / 8) * 8;
        const { inputs, out } = placed(subject, name, MEMORY[0][1], beside);
        const result = subject.runSync(inputs, { backend, gradient: { out } }) as Fields;
        expect(Object.values(result), name).toContain(out);
        if (!subject.name.endsWith('float32')) expect(result, name).toEqual(expected);
      }
    },
  );
});

describeBackends('in place', (backend) => {
  test('and out where the logits or the log-probs are', async () => {
    for (const subject of LOSSES) {
      const name = 'logits' in subject.inputs ? 'logits' : 'logProbs';
      const expected = await subject.run(subject.inputs, { backend });
      for (const form of ['in-place', 'out']) {
        const array = (subject.inputs[name] as AnyArray).slice();
        const gradient = form === 'out' ? { out: array } : form;
        const result = (await subject.run({ ...subject.inputs, [name]: array }, { backend, gradient })) as Fields;
        expect(Object.values(result), subject.name).toContain(array);
        expect(result, subject.name).toEqual(expected);
      }
    }
  });

  test('on-policy, where the old log-probs are the same array: the gradient is that of two arrays', () => {
    for (const { name, inputs, runSync } of LOSSES.filter(({ name }) => name.endsWith('log-probs'))) {
      const same = (logProbs: Float64Array) => ({
        ...inputs,
        ...{ logProbs, oldLogProbs: logProbs, refLogProbs: logProbs, rolloutLogProbs: logProbs },
      });
      const expected = runSync(same(given.logProbs), { backend });
      for (const form of ['in-place', 'out']) {
        const array = given.logProbs.slice();
        const result = runSync(same(array), { backend, gradient: form === 'out' ? { out: array } : form });
        expect(result, name).toEqual(expected);
        expect(expected, name).toHaveProperty('gradLogProbs', array);
      }
    }
  });

  test.each([
    ['logits', batch],
    ['logProbs', given],
  ])('%s in the memory of another input are refused', (name, fields) => {
    const array = (fields as unknown as Record<string, AnyArray>)[name];
    const [one, other] = twice(new SharedArrayBuffer(array.byteLength));
    const own = { ...fields, [name]: at(array, one, 0), mask: at(mask, other, 0) };
    at(array, one, 0).set(array as never);
    const message = `${name}: expected memory apart from mask, got an overlap`;
    expect(() => rlvr.conspoSync(own as unknown as rlvr.Batch, { backend, gradient: 'in-place' })).toThrow(message);
    expect(Array.from(at(array, one, 0))).toEqual(Array.from(array));
  });
});

describeBackends('backward of forward', (backend) => {
  test.each([
    ['logits', batch, new Float32Array(logits.length), ['targets', 'mask', 'gradScores']],
    ['log-probs', given, new Float64Array(T), ['mask', 'gradScores']],
  ] as const)('of %s: out apart from what it reads', async (_what, fields, like, names) => {
    const gradScores = Float64Array.from(scores, (s) => s + 1);
    for (const name of names) {
      const inputs = { ...fields, gradScores } as unknown as Record<string, AnyArray>;
      const [one, other] = twice(new SharedArrayBuffer(like.byteLength));
      const moved = at(inputs[name], other, 0);
      moved.set(inputs[name] as never);
      const own = { ...inputs, [name]: moved } as unknown as typeof batch & { gradScores: Float64Array };
      const out = at(like, one, 0);
      const refused = `gradient.out: expected memory apart from ${name}, got an overlap`;
      const later = rlvr.forwardSync(own, 'logLikelihood', { backend });
      expect(() => later.backward(own.gradScores, { gradient: { out: out as never } })).toThrow(refused);
    }
  });
});

test('inputs may share memory with each other', () => {
  const whole = new ArrayBuffer(8 * T);
  const log = new Float64Array(whole);
  log.set(given.logProbs);
  const fields = {
    ...given,
    logProbs: log,
    oldLogProbs: log,
    refLogProbs: log,
    rolloutLogProbs: new Float64Array(whole),
  };
  const copies = { ...fields, oldLogProbs: log.slice(), refLogProbs: log.slice(), rolloutLogProbs: log.slice() };
  expect(rlvr.grpoSync(fields, { klCoef: 0.1 })).toEqual(rlvr.grpoSync(copies, { klCoef: 0.1 }));
});

test('without the addon nothing tells addresses: the gradient is right in shared memory all the same', async () => {
  const { right } = await childJson<{ right: boolean[] }>(
    `const [T, V] = [40, 30];
    const values = () => Float32Array.from({ length: T * V }, (_, i) => ((i * 2654435761) >>> 20) / 800);
    const batch = { targets: Int32Array.from({ length: T }, (_, t) => t % V), cuSeqlens: Int32Array.of(0, 20, T),
      cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0), logits: values() };
    const backend = 'reference'; // does not load it
    const expected = rlvr.conspoSync(batch, { backend }).gradLogits;
    const shared = () => new SharedArrayBuffer(4 * T * V);
    const inShared = (array, memory = shared()) => { const View = array.constructor; const own = new View(memory, 0, array.length); own.set(array); return own; };
    const right = [];
    for (const run of [rlvr.conspoSync, rlvr.conspo]) {
      for (const rowStride of [V, V + 3]) {
        const memory = new SharedArrayBuffer(4 * T * rowStride);
        const targets = inShared(batch.targets, structuredClone(memory));
        const shape = [T, V];
        const out = { data: new Float32Array(memory), shape, rowStride };
        const { gradLogits } = await run({ ...batch, logits: { data: batch.logits, shape }, targets }, { backend, gradient: { out } });
        const rows = expected.map((_, i) => out.data[Math.floor(i / V) * rowStride + (i % V)]);
        right.push(gradLogits === out && Buffer.compare(Buffer.from(rows.buffer), Buffer.from(expected.buffer)) === 0);
      }
      const logits = inShared(batch.logits);
      const { gradLogits } = await run({ ...batch, logits, targets: inShared(batch.targets) }, { backend, gradient: 'in-place' });
      right.push(gradLogits === logits && expected.every((x, i) => x === logits[i]));
    }
    console.log(JSON.stringify({ right }));`,
  );
  expect(right).toEqual(new Array(6).fill(true));
});
