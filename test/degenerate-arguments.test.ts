// Spec section 7, the rows that are refused: wrong length, wrong type, bad offsets, targets out of range, bad options. Every
// op and loss, async and sync, each argument and option alone; taken together: degenerate-combinations.test.ts.
import { describe, expect, test } from 'vitest';
import { RlvrError } from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { failureOf } from './support/errors.js';
import { expectRefusal } from './support/refusals.js';
import { type Argument, subjectsOn } from './support/subjects.js';

const named = (name: string, rest: string) =>
  new RegExp(`^${name.replaceAll('.', '\\.')}.*: expected .*, got .*${rest}`);

/** Arguments that may be plain arrays of numbers, and of nothing else. */
const LISTS = /^(cu(Seqlens|Groups)|rewards|advantages|scores|tokenCounts|gradScores|sides)$/;

/** Wrong types of one argument, and what the message says of each. */
function wrongTypes({ name, is, optional }: Argument): [value: unknown, got: string][] {
  const others = {
    floats: new Int32Array(4),
    targets: new Uint32Array(4),
    offsets: new Float64Array(3),
    mask: new Int8Array(4),
    logits: new Float64Array(12),
    matrix: new Float64Array(12),
  };
  return [
    [others[is], `${others[is].constructor.name} of length ${others[is].length}`],
    LISTS.test(name) ? [[0, '1', 2], '"1" at index 1'] : [[0, 1, 2], 'an Array of length 3'],
    is === 'targets'
      ? [new BigUint64Array(4), 'BigUint64Array of length 4']
      : [new BigInt64Array(4), 'BigInt64Array of length 4'],
    [new ArrayBuffer(8), 'ArrayBuffer'],
    [new DataView(new ArrayBuffer(8)), 'DataView'],
    ['0 1 2', '"0 1 2"'],
    [7n, '7n'],
    [() => 0, '=> 0'],
    [Symbol('s'), 'Symbol'],
    [null, 'null'],
    [0, '0'],
    [false, 'false'],
    ['', '""'],
    ...(optional ? [] : ([[undefined, 'undefined']] as [unknown, string][])),
  ];
}

const grown = (array: Float64Array, by: number) => {
  const copy = new (array.constructor as Float64ArrayConstructor)(array.length + by);
  copy.set(array.subarray(0, copy.length));
  return copy;
};

const BAD_OFFSETS: [what: string, offsets: number[], code: string, got: string][] = [
  ['not from 0', [1, 2, 4], 'ERR_RANGE', '1 at index 0'],
  ['negative', [-1, 2, 4], 'ERR_RANGE', '-1 at index 0'],
  ['decreasing', [0, 3, 2, 4], 'ERR_RANGE', '2 after 3 at index 2'],
  ['beyond the end and back', [0, 2 ** 31 - 1, 4], 'ERR_RANGE', '4 after 2147483647 at index 2'],
  ['empty', [], 'ERR_SHAPE', 'length 0'],
];

describeBackends('refused', (backend) => {
  describe.each(subjectsOn(backend))('$name', (subject) => {
    const options = { backend, gradient: 'in-place', entropy: true };
    const safe = /^sequence|^ratioScoresBackward/.test(subject.name) ? { backend } : options;

    test('the subject itself is accepted', async () => {
      await subject.run(subject.inputs(), safe);
      subject.runSync(subject.inputs(), safe);
    });

    test('no inputs, no object', async () => {
      for (const inputs of [undefined, null, 7, 'logits', new Float32Array(4)]) {
        await expectRefusal(
          subject,
          inputs,
          { backend },
          { code: 'ERR_DTYPE', message: /^(inputs|batch): expected an object/ },
          String(inputs),
        );
      }
    });

    test('options that are no object', async () => {
      for (const bad of [null, 7, 'cpu']) {
        const refusal = { code: 'ERR_DTYPE', message: /^options: expected an object/ };
        if (!subject.name.includes('discriminative'))
          await expectRefusal(subject, subject.inputs(), bad, refusal, String(bad));
      }
    });

    test.each(subject.arguments)('wrong type: $name', async (argument) => {
      for (const [value, got] of wrongTypes(argument)) {
        // Of a batch with neither logits nor log-probs the message says so.
        const missing = value === undefined && ['logits', 'logProbs'].includes(argument.name);
        if (
          missing &&
          subject.arguments.some(({ name }) => name === 'cuSeqlens') &&
          /conspo|grpo|forward/.test(subject.name)
        )
          continue;
        const what = `${argument.name} = ${String(got)}`;
        // An array without data, shape and dtype is no tensor: the message may say so of its data.
        const isTensor = ['logits', 'matrix'].includes(argument.is);
        const shown = isTensor && /^an Array|^ArrayBuffer/.test(got) ? '' : got.replace(/[()"]/g, '.');
        await expectRefusal(
          subject,
          { ...subject.inputs(), [argument.name]: value },
          safe,
          { code: 'ERR_DTYPE', message: named(argument.name, shown) },
          what,
        );
      }
    });

    test.each(subject.arguments.filter(({ defines, is }) => !defines && (is === 'floats' || is === 'mask')))(
      'wrong length: $name',
      async ({ name }) => {
        for (const by of [1, -1, 1000]) {
          const inputs = subject.inputs();
          const given = inputs[name] as Float64Array;
          const message = named(name, `length ${given.length + by}`);
          await expectRefusal(
            subject,
            { ...inputs, [name]: grown(given, by) },
            safe,
            { code: 'ERR_SHAPE', message },
            `${name} by ${by}`,
          );
          expect(message.test(`${name}: expected length ${given.length} (T), got length ${given.length + by}`)).toBe(
            true,
          );
        }
      },
    );

    test.each(subject.arguments.filter(({ is }) => is === 'offsets'))('offsets: $name', async ({ name, defines }) => {
      for (const [what, offsets, code, got] of BAD_OFFSETS) {
        const inputs = { ...subject.inputs(), [name]: Int32Array.from(offsets) };
        await expectRefusal(subject, inputs, safe, { code, message: named(name, got) }, `${name} ${what}`);
      }
      if (defines) return;
      const end = name === 'cuGroups' ? 2 : 4;
      for (const last of [0, end - 1, end + 1, 2 ** 31 - 1]) {
        const inputs = { ...subject.inputs(), [name]: Int32Array.of(0, last) };
        const message = new RegExp(`^${name}: expected a last offset of ${end} .*, got ${last}$`);
        await expectRefusal(subject, inputs, safe, { code: 'ERR_SHAPE', message }, `${name} ending at ${last}`);
      }
    });

    test.each(subject.arguments.filter(({ finite }) => finite))(
      'NaN and infinities: $name',
      async ({ name, finite }) => {
        const given = subject.inputs()[name] as Float64Array;
        const last = given.length - 1;
        for (const value of finite === 'not NaN' ? [NaN] : [NaN, Infinity, -Infinity]) {
          const inputs = subject.inputs();
          inputs[name] = given.slice().fill(value, last);
          const batch = /conspo|grpo/.test(subject.name) && name === 'logProbs';
          const got = batch ? `1 non-finite token.*token ${last}` : `${value} at index ${last}`;
          await expectRefusal(
            subject,
            inputs,
            safe,
            { code: 'ERR_NONFINITE', message: named(name, got) },
            `${name} = ${value}`,
          );
        }
      },
    );

    if (subject.arguments.some(({ is }) => is === 'targets')) {
      test('targets out of range, where not masked', async () => {
        for (const id of [-1, 3, 2 ** 31 - 1, -(2 ** 31)]) {
          const inputs = { ...subject.inputs(), targets: Int32Array.of(0, 1, 2, id) };
          const message = new RegExp(`^targets: expected ids in \\[0, 3\\), got ${id} at index 3$`);
          await expectRefusal(subject, inputs, safe, { code: 'ERR_RANGE', message }, `target ${id}`);
          await subject.run({ ...subject.inputs(), targets: Int32Array.of(0, 1, id, 0) }, safe); // masked
        }
      });
    }

    if (subject.arguments.some(({ is }) => is === 'logits')) {
      test('shapes of logits', async () => {
        const data = () => Float32Array.from({ length: 12 }, (_, i) => i);
        const bits = () => Uint16Array.from({ length: 12 }, (_, i) => i);
        const bad: [logits: unknown, code: string, message: RegExp][] = [
          [new Float32Array(13), 'ERR_SHAPE', /^logits: expected a multiple of 4 elements .*, got 13$/],
          [new Float32Array(0), 'ERR_SHAPE', /^logits: .*4.*, got 0$/],
          [bits(), 'ERR_DTYPE', /^logits: expected .*dtype.*, got Uint16Array of length 12$/],
          [{ data: data(), shape: [3, 4] }, 'ERR_SHAPE', /^logits\.shape: expected 4 rows .*, got 3$/],
          [{ data: data(), shape: [4, 4] }, 'ERR_SHAPE', /^logits\.data: expected at least 16 elements, got 12$/],
          [
            { data: data(), shape: [4, 3], rowStride: 4 },
            'ERR_SHAPE',
            /^logits\.data: expected at least 15 .*, got 12$/,
          ],
          [{ data: data(), shape: [4, 3], rowStride: 2 }, 'ERR_RANGE', /^logits\.rowStride: .*at least 3.*, got 2$/],
          [{ data: data(), shape: [4, 3], rowStride: 3.5 }, 'ERR_RANGE', /^logits\.rowStride: .*whole.*, got 3\.5$/],
          [{ data: data(), shape: [4, 3], rowStride: NaN }, 'ERR_RANGE', /^logits\.rowStride: .*, got NaN$/],
          [{ data: data(), shape: [4, 0] }, 'ERR_RANGE', /^logits\.shape\[1\]: .*at least 1.*, got 0$/],
          [{ data: data(), shape: [4, -3] }, 'ERR_RANGE', /^logits\.shape\[1\]: .*, got -3$/],
          [
            { data: data(), shape: [4, 2 ** 40] },
            'ERR_SHAPE',
            /^logits\.data: expected at least \d+ elements, got 12$/,
          ],
          [{ data: data(), shape: [4] }, 'ERR_SHAPE', /^logits\.shape: expected \[T, V\], got an Array of length 1$/],
          [{ data: data(), shape: '4x3' }, 'ERR_SHAPE', /^logits\.shape: .*, got "4x3"$/],
          [{ data: data() }, 'ERR_SHAPE', /^logits\.shape: .*, got undefined$/],
          [{ data: data(), shape: [4, 3], dtype: 'bf16' }, 'ERR_DTYPE', /^logits\.data: .*bf16.*, got Float32Array/],
          [{ data: bits(), shape: [4, 3], dtype: 'f32' }, 'ERR_DTYPE', /^logits\.data: .*f32.*, got Uint16Array/],
          [{ data: bits(), shape: [4, 3] }, 'ERR_RANGE', /^logits\.dtype: expected .*, got undefined$/],
          [{ data: bits(), shape: [4, 3], dtype: 'f8' }, 'ERR_RANGE', /^logits\.dtype: .*, got "f8"$/],
          [{ data: [1, 2, 3], shape: [4, 3] }, 'ERR_DTYPE', /^logits\.data: .*, got an Array of length 3$/],
          [{}, 'ERR_DTYPE', /^logits\.data: .*, got undefined$/],
        ];
        for (const [logits, code, message] of bad) {
          await expectRefusal(subject, { ...subject.inputs(), logits }, safe, { code, message }, String(message));
        }
      });
    }

    test.each(subject.options)('option %s', async (option, ...bad) => {
      const given = bad.filter((value) => value !== undefined && !Array.isArray(value));
      for (const value of given) {
        const extra = option === 'maxLength' ? { aggregation: 'constant-length' } : {};
        const what = `${option} = ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`;
        const error = await failureOf(
          () => subject.run(subject.inputs(), { ...safe, ...extra, [option]: value }),
          what,
        );
        expect(error, `${what}: ${error}`).toBeInstanceOf(RlvrError);
        const { code } = error as RlvrError;
        expect(code, what).toContain(option === 'backend' ? 'ERR_BACKEND' : 'ERR_');
        await expectRefusal(
          subject,
          subject.inputs(),
          { ...safe, ...extra, [option]: value },
          { code, message: new RegExp(`^${option}.*: expected .*, got `) },
          what,
        );
      }
    });
  });
});
