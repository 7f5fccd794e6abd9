// `copyInputs`: once the call has returned its promise, nothing that happens to its arrays matters.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { rlvrError } from './support/errors.js';
import { fromLogProbs, fullBatch, NAMED_LOSSES } from './support/named-losses.js';
import type { Call, Fields } from './support/refusals.js';
import { subjectsOn } from './support/subjects.js';
import { hostTensor } from './support/tensors.js';

type AnyArray = Float32Array | Float64Array | Int32Array | Uint8Array;

/** The arrays in a value. */
function arraysIn(value: unknown): AnyArray[] {
  if (ArrayBuffer.isView(value)) return [value as AnyArray];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(arraysIn) : [];
}

/** Overwrites every array and takes its memory away. */
function take(...values: unknown[]): void {
  for (const array of arraysIn(values)) {
    array.fill(77);
    structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
    expect(array.length).toBe(0);
  }
}

const withoutFunctions = (result: unknown) =>
  Object.fromEntries(Object.entries(result as object).filter(([, value]) => typeof value !== 'function'));

const fields = fullBatch(9, { groups: 3 });
const ofLogits = () => structuredClone(fields);
const ofLogProbs = () => structuredClone(fromLogProbs(fields));
const shape: [number, number] = [fields.targets.length, fields.logits.length / fields.targets.length];
const copyInputs = true;

describeBackends('copyInputs', (backend) => {
  test.each(subjectsOn(backend).map((subject) => [subject.name, subject] as const))('%s', async (_name, subject) => {
    const expected = withoutFunctions(subject.runSync(subject.inputs(), { backend }));
    const inputs = subject.inputs();
    const pending = subject.run(inputs, { backend, copyInputs });
    take(inputs);
    expect(withoutFunctions(await pending)).toEqual(expected);
  });

  test('every loss, of logits and of log-probs', async () => {
    for (const { name, run, runSync, options } of NAMED_LOSSES) {
      for (const make of [ofLogits, ofLogProbs]) {
        const expected = runSync(make() as never, { ...options, backend });
        const batch = make();
        const pending = run(batch as never, { ...options, backend, copyInputs } as never);
        take(batch);
        expect(await pending, name).toEqual(expected);
      }
    }
  });

  test('logits in a tensor, 64-bit targets, and an array among the options', async () => {
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      const make = () => ({ ...ofLogits(), logits: hostTensor(fields.logits, shape, dtype, 3) });
      const expected = await rlvr.conspo(make(), { backend });
      const targets = BigInt64Array.from(fields.targets, BigInt);
      const batch = { ...make(), targets };
      const pending = rlvr.conspo(batch, { backend, copyInputs });
      (batch.logits as { shape: readonly number[] }).shape = [0, 0];
      targets.fill(0n);
      take({ ...batch, targets: undefined });
      expect(await pending).toEqual(expected);
    }
    const sides = () => Float64Array.from(fields.rewards, (reward) => 2 * reward - 1);
    const score = { kind: 'clippedRatio' } as const;
    const given = sides();
    const pending = rlvr.forward(ofLogProbs(), score, { backend, sides: given, copyInputs });
    take(given);
    expect((await pending).scores).toEqual(rlvr.forwardSync(ofLogProbs(), score, { backend, sides: sides() }).scores);
  });

  test.each([
    ['logits', ofLogits],
    ['logProbs', ofLogProbs],
  ] as const)('a gradient in place of %s, and in out, is written at the end', async (name, make) => {
    const key = name === 'logits' ? 'gradLogits' : 'gradLogProbs';
    const expected = rlvr.grpoSync(make() as never, { backend });
    for (const form of ['in-place', 'out']) {
      const batch = make() as unknown as Record<string, AnyArray>;
      const array =
        form === 'in-place'
          ? batch[name]
          : new (batch[name].constructor as Float64ArrayConstructor)(batch[name].length);
      const before = array.slice();
      const gradient = form === 'in-place' ? form : { out: array };
      const pending = rlvr.grpo(batch as never, { backend, copyInputs, gradient: gradient as never });
      take({ ...batch, ...(form === 'in-place' && { [name]: undefined }) });
      expect(array).toEqual(before);
      const result = (await pending) as unknown as Fields;
      expect(result[key]).toBe(array);
      expect(result).toEqual(expected);
    }
  });

  test('arrays without elements', async () => {
    const none = () => ({ logits: new Float32Array(0), targets: new Int32Array(0), mask: new Uint8Array(0) });
    const inputs = none();
    const pending = rlvr.tokenLogProbs(inputs, { backend, copyInputs });
    for (const array of Object.values(inputs)) structuredClone(array.buffer, { transfer: [array.buffer] });
    expect(await pending).toEqual(rlvr.tokenLogProbsSync(none(), { backend }));
  });

  test('rows with padding: it is left as it is', async () => {
    const expected = rlvr.conspoSync(ofLogits(), { backend }).gradLogits;
    const out = hostTensor(new Float32Array(fields.logits.length), shape, 'f32', 2);
    const logits = hostTensor(fields.logits, shape, 'f32', 2);
    for (const [gradient, tensor] of [
      [{ out }, out],
      ['in-place', logits],
    ] as const) {
      const { gradLogits } = await rlvr.conspo({ ...ofLogits(), logits }, { backend, copyInputs, gradient });
      expect(gradLogits).toBe(tensor);
      const width = shape[1] + 2;
      const inside = Array.from(tensor.data).filter((_, i) => i % width < shape[1]);
      expect(inside).toEqual(Array.from(expected));
      expect(
        Array.from(tensor.data)
          .filter((_, i) => i % width >= shape[1])
          .every(Number.isNaN),
      ).toBe(true);
    }
  });

  test('an output that is taken away meanwhile', async () => {
    const refused = (name: string) =>
      rlvrError(
        'ERR_DTYPE',
        `${name}: expected an array that keeps its memory until the call is done, got one that was detached`,
      );
    const inPlace = ofLogits();
    const first = rlvr.conspo(inPlace, { backend, copyInputs, gradient: 'in-place' });
    take(inPlace.logits);
    await expect(first).rejects.toEqual(refused('logits'));
    const out = new Float64Array(fields.targets.length);
    const second = rlvr.conspo(ofLogProbs(), { backend, copyInputs, gradient: { out } });
    take(out);
    await expect(second).rejects.toEqual(refused('gradient.out'));
  });

  test('memory that may shrink, and does', async () => {
    const resizable = <A extends AnyArray>(array: A): A => {
      const Resizable = ArrayBuffer as new (length: number, options: object) => ArrayBuffer;
      const buffer = new Resizable(array.byteLength, { maxByteLength: array.byteLength });
      const copy = new (array.constructor as new (buffer: ArrayBuffer) => A)(buffer);
      copy.set(array as never);
      return copy;
    };
    const shrink = (array: AnyArray) => (array.buffer as ArrayBuffer & { resize(bytes: number): void }).resize(8);
    const { logits, targets, ...rest } = ofLogits();
    const batch = { ...rest, logits: resizable(logits), targets: resizable(targets) };
    const first = rlvr.conspo(batch, { backend, copyInputs, gradient: 'in-place' });
    shrink(batch.targets);
    expect(await first).toEqual(rlvr.conspoSync(ofLogits(), { backend }));
    const again = { ...ofLogits(), logits: resizable(logits) };
    const second = rlvr.conspo(again, { backend, copyInputs, gradient: 'in-place' });
    shrink(again.logits);
    await expect(second).rejects.toMatchObject({
      code: 'ERR_DTYPE',
      message: expect.stringMatching(/^logits: .* shrunk/),
    });
  });

  test('an output over inputs gets the gradient of what they were', async () => {
    const { logits, ...batch } = ofLogits();
    const whole = new Float32Array(logits.length + 1);
    const at = whole.subarray(0, logits.length);
    at.set(logits);
    const expected = rlvr.conspoSync(ofLogits(), { backend });
    const options = { backend, copyInputs, gradient: { out: whole.subarray(1) } };
    expect(await rlvr.conspo({ ...batch, logits: at }, options)).toEqual(expected);
  });

  test('an aborted call has written nothing', async () => {
    const controller = new AbortController();
    const batch = ofLogits();
    const options = { backend, copyInputs, signal: controller.signal, gradient: 'in-place' } as const;
    const pending = rlvr.conspo(batch, options);
    controller.abort();
    await expect(pending).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(batch).toEqual(ofLogits());
  });

  describe('forward and backward', () => {
    const gradScores = () => Float64Array.from(fields.rewards, (reward, i) => reward - 0.3 * i);

    test.each([
      ['logits', ofLogits],
      ['logProbs', ofLogProbs],
    ] as const)('of %s: forward copies for both', async (name, make) => {
      const expected = rlvr.forwardSync(make() as never, 'logLikelihood', { backend }).backward(gradScores()) as Fields;
      const batch = make() as unknown as Record<string, AnyArray>;
      const forward = rlvr.forward(batch as never, 'logLikelihood', { backend, copyInputs });
      take({ ...batch, [name]: undefined });
      batch[name].fill(3);
      const { backward } = (await forward) as unknown as { backward: Call };
      const slopes = gradScores();
      const pending = backward(slopes);
      take(slopes);
      expect(await pending).toEqual(expected);
      const out = new (batch[name].constructor as Float64ArrayConstructor)(batch[name].length);
      const toOut = (await backward(gradScores(), { gradient: { out } })) as Fields;
      expect(Object.values(toOut)).toEqual([out]);
      expect(toOut).toEqual(expected);
      const inPlace = (await backward(gradScores(), { gradient: 'in-place', copyInputs: false })) as Fields;
      expect(Object.values(inPlace)[0]).toBe(batch[name]);
      expect(inPlace).toEqual(expected);
    });

    test.each([
      ['logits', ofLogits],
      ['logProbs', ofLogProbs],
    ] as const)('of %s: backward alone', async (name, make) => {
      const expected = rlvr.forwardSync(make() as never, 'logLikelihood', { backend }).backward(gradScores());
      const batch = make() as unknown as Record<string, AnyArray>;
      const { backward } = (await rlvr.forward(batch as never, 'logLikelihood', { backend })) as unknown as {
        backward: Call;
      };
      const slopes = gradScores();
      const first = backward(slopes, { copyInputs, gradient: 'in-place' });
      take(slopes, { ...batch, [name]: undefined });
      const result = (await first) as Fields;
      expect(Object.values(result)[0]).toBe(batch[name]);
      expect(result).toEqual(expected);
    });
  });

  test('is a boolean', async () => {
    const refused = rlvrError('ERR_RANGE', 'copyInputs: expected true or false, got "yes"');
    await expect(rlvr.conspo(ofLogits(), { backend, copyInputs: 'yes' as never })).rejects.toEqual(refused);
  });
});

test('the blocking losses do not have copyInputs', () => {
  expect(() => rlvr.conspoSync(ofLogits(), { copyInputs } as never)).toThrow('copyInputs: no such option of conspo');
});
