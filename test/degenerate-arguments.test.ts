// Spec section 7, the rows that are refused: wrong length, wrong type, bad offsets, targets out of range, bad options. Every
// op and loss, async and sync: the error has its code, names the argument, what was expected and what came; and not a byte
// of any array that was handed over has changed.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { RlvrError } from '../lib/index.js';
import { describeBackends } from './support/backends.js';

type Fields = Record<string, unknown>;
// As a JavaScript user calls it: nothing is known of the arguments' types.
type Call = (inputs: unknown, options?: unknown) => unknown;

interface Argument {
  name: string;
  is: 'floats' | 'targets' | 'offsets' | 'mask' | 'logits';
  /** Its length defines T or N: another length shows elsewhere. */
  defines?: boolean;
  optional?: boolean;
  /** Where it must be finite. */
  finite?: 'everywhere' | 'unmasked' | 'not NaN';
}

interface Subject {
  name: string;
  run: Call;
  runSync: Call;
  inputs: () => Fields;
  arguments: Argument[];
  options: [option: string, ...bad: unknown[]][];
}

const floats = (name: string, more: Partial<Argument> = {}): Argument => ({
  name,
  is: 'floats',
  finite: 'everywhere',
  ...more,
});
const LOGITS: Argument[] = [
  { name: 'logits', is: 'logits' },
  { name: 'targets', is: 'targets', defines: true },
];
const MASK: Argument = { name: 'mask', is: 'mask', optional: true };
const CU_SEQLENS: Argument = { name: 'cuSeqlens', is: 'offsets' };
const CU_GROUPS: Argument = { name: 'cuGroups', is: 'offsets' };
const OLD = floats('oldLogProbs', { optional: true, finite: 'not NaN' });
const NOT_ABOVE_0 = [0, -1, NaN, Infinity, -Infinity, '1', {}];
const NOT_FINITE = [NaN, Infinity, -Infinity, '0', {}];
const NEGATIVE = [-0.1, NaN, Infinity, '1', {}];

const rows = (): Fields => ({
  logits: Float32Array.from({ length: 12 }, (_, i) => (i * 7) % 5),
  targets: Int32Array.of(0, 1, 2, 0),
  mask: Uint8Array.of(1, 1, 0, 1),
});
const logProbs = (): Fields => ({
  logProbs: Float64Array.of(-1, -2, -3, -4),
  mask: Uint8Array.of(1, 1, 0, 1),
});
const sequences = (): Fields => ({
  cuSeqlens: Int32Array.of(0, 2, 4),
  oldLogProbs: Float64Array.of(-1, -2, -3, -4),
});
const groups = (): Fields => ({ cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) });
const further = (): Fields => ({
  advantages: Float32Array.of(0.5, -0.5),
  refLogProbs: Float64Array.of(-1, -2, -3, -4),
});

const TEMPERATURE: Subject['options'][number] = ['temperature', ...NOT_ABOVE_0, 1e-31, 1e31];
const ON_NON_FINITE: Subject['options'][number] = ['onNonFinite', 'ignore', 1, {}];
const BACKEND: Subject['options'][number] = ['backend', 'gpu', '', null, 3];
const GRADIENT: Subject['options'][number] = ['gradient', 'copy', null, 3, {}, { out: undefined }, { out: [] }];
const OWN_ARRAY: Subject['options'][number] = [...GRADIENT, 'none', 'in-place', { out: new Float64Array(3) }];
const AGGREGATION: Subject['options'] = [
  ['aggregation', 'mean', false, 1],
  ['normalizer', ...NOT_ABOVE_0],
];
const CLIPS: Subject['options'] = [
  ['epsilonLow', ...NEGATIVE],
  ['epsilonHigh', ...NEGATIVE],
];
const GROUP_LOSS: Argument[] = [CU_SEQLENS, CU_GROUPS, floats('rewards'), MASK, OLD];
const ROW_LOSS_OPTIONS = [TEMPERATURE, ON_NON_FINITE, GRADIENT, BACKEND];
const CONSPO_OPTIONS: Subject['options'] = [
  ['tau', ...NOT_ABOVE_0],
  ['margin', ...NOT_FINITE],
  ['positiveThreshold', ...NOT_FINITE],
  ['normalizer', ...NOT_ABOVE_0],
];
const GRPO_OPTIONS: Subject['options'] = [
  ['form', 'other', 1],
  ...CLIPS,
  ...AGGREGATION,
  ['klCoef', ...NEGATIVE],
  ['klEstimator', 'k4', 1],
  ['positiveThreshold', ...NOT_FINITE],
  ['maxLength', 0, -1, NaN, Infinity, '1'],
];

const SUBJECTS: Subject[] = [
  {
    name: 'tokenLogProbs',
    run: rlvr.tokenLogProbs as Call,
    runSync: rlvr.tokenLogProbsSync as Call,
    inputs: rows,
    arguments: [...LOGITS, MASK],
    options: [TEMPERATURE, ON_NON_FINITE, BACKEND],
  },
  {
    name: 'tokenLogProbsBackward',
    run: rlvr.tokenLogProbsBackward as Call,
    runSync: rlvr.tokenLogProbsBackwardSync as Call,
    inputs: () => ({
      ...rows(),
      ...Object.fromEntries(
        ['logSumExp', 'gradLogProbs', 'entropy', 'gradEntropy'].map((name) => [name, Float64Array.of(5, 5, 5, 5)]),
      ),
    }),
    arguments: [
      ...LOGITS,
      MASK,
      floats('logSumExp'),
      floats('gradLogProbs'),
      floats('entropy'),
      floats('gradEntropy', { optional: true }),
    ],
    options: [TEMPERATURE, [...GRADIENT, 'none'], BACKEND],
  },
  {
    name: 'sequenceLogProbs',
    run: rlvr.sequenceLogProbs as Call,
    runSync: rlvr.sequenceLogProbsSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences() }),
    arguments: [floats('logProbs', { defines: true, finite: 'unmasked' }), CU_SEQLENS, MASK],
    options: [BACKEND],
  },
  {
    name: 'sequenceLogProbsBackward',
    run: rlvr.sequenceLogProbsBackward as Call,
    runSync: rlvr.sequenceLogProbsBackwardSync as Call,
    inputs: () => ({
      gradScores: Float32Array.of(1, 2),
      tokenCounts: Float64Array.of(2, 1),
      cuSeqlens: Int32Array.of(0, 2, 4),
      mask: Uint8Array.of(1, 1, 0, 1),
    }),
    arguments: [floats('gradScores'), floats('tokenCounts'), { ...CU_SEQLENS, defines: true }, MASK],
    options: [OWN_ARRAY, BACKEND],
  },
  {
    name: 'ratioScores',
    run: rlvr.ratioScores as Call,
    runSync: rlvr.ratioScoresSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences(), sides: Float64Array.of(1, -1) }),
    arguments: [
      floats('logProbs', { defines: true, finite: 'unmasked' }),
      CU_SEQLENS,
      MASK,
      OLD,
      floats('sides', { optional: true }),
    ],
    options: [['score', 'ratio', 1], BACKEND],
  },
  {
    name: 'ratioScoresBackward',
    run: rlvr.ratioScoresBackward as Call,
    runSync: rlvr.ratioScoresBackwardSync as Call,
    inputs: () => ({
      gradScores: Float32Array.of(1, 2),
      scoreGrads: Float64Array.of(1, 2, 3, 4),
      cuSeqlens: Int32Array.of(0, 2, 4),
    }),
    arguments: [floats('gradScores'), floats('scoreGrads'), { ...CU_SEQLENS, defines: true }],
    options: [OWN_ARRAY, BACKEND],
  },
  {
    name: 'groupInfoNCE',
    run: rlvr.groupInfoNCE as Call,
    runSync: rlvr.groupInfoNCESync as Call,
    inputs: () => ({ ...groups(), scores: Float64Array.of(-1, -2), tokenCounts: Float64Array.of(3, 4) }),
    arguments: [
      floats('scores', { defines: true }),
      floats('rewards'),
      floats('tokenCounts', { optional: true }),
      CU_GROUPS,
    ],
    options: [...CONSPO_OPTIONS, BACKEND],
  },
  {
    name: 'advantageObjective',
    run: rlvr.advantageObjective as Call,
    runSync: rlvr.advantageObjectiveSync as Call,
    inputs: () => ({
      scores: Float64Array.of(-1, -2),
      advantages: Float64Array.of(1, -1),
      tokenCounts: Float64Array.of(3, 4),
    }),
    arguments: [floats('scores', { defines: true }), floats('advantages'), floats('tokenCounts')],
    options: [...AGGREGATION, BACKEND],
  },
  {
    name: 'conspo from logits',
    run: rlvr.conspo as Call,
    runSync: rlvr.conspoSync as Call,
    inputs: () => ({ ...rows(), ...sequences(), ...groups() }),
    arguments: [...LOGITS, ...GROUP_LOSS],
    options: [...CONSPO_OPTIONS, ...ROW_LOSS_OPTIONS],
  },
  {
    name: 'conspo from log-probs',
    run: rlvr.conspo as Call,
    runSync: rlvr.conspoSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences(), ...groups() }),
    arguments: [floats('logProbs', { defines: true, finite: 'unmasked' }), ...GROUP_LOSS],
    options: [...CONSPO_OPTIONS, ON_NON_FINITE, GRADIENT, BACKEND],
  },
  {
    name: 'grpo from logits',
    run: rlvr.grpo as Call,
    runSync: rlvr.grpoSync as Call,
    inputs: () => ({ ...rows(), ...sequences(), ...groups(), ...further() }),
    arguments: [...LOGITS, ...GROUP_LOSS, floats('advantages', { optional: true }), { ...OLD, name: 'refLogProbs' }],
    options: [...GRPO_OPTIONS, ...ROW_LOSS_OPTIONS],
  },
  {
    name: 'grpo from log-probs',
    run: rlvr.grpo as Call,
    runSync: rlvr.grpoSync as Call,
    inputs: () => ({ ...logProbs(), ...sequences(), ...groups(), ...further() }),
    arguments: [
      floats('logProbs', { defines: true, finite: 'unmasked' }),
      ...GROUP_LOSS,
      floats('advantages', { optional: true }),
      { ...OLD, name: 'refLogProbs' },
    ],
    options: [...GRPO_OPTIONS, ON_NON_FINITE, GRADIENT, BACKEND],
  },
  {
    name: 'grpo, discriminative',
    run: (inputs, options) => rlvr.grpo(inputs as never, { form: 'discriminative', ...(options as object) }),
    runSync: (inputs, options) => rlvr.grpoSync(inputs as never, { form: 'discriminative', ...(options as object) }),
    inputs: () => ({ ...rows(), ...sequences(), ...groups() }),
    arguments: [...LOGITS, ...GROUP_LOSS],
    options: [...CLIPS, ['positiveThreshold', ...NOT_FINITE], ['normalizer', 0, NaN], ...ROW_LOSS_OPTIONS],
  },
  {
    name: 'forward',
    run: (inputs, options) => rlvr.forward(inputs as never, 'logLikelihood', options as never),
    runSync: (inputs, options) => rlvr.forwardSync(inputs as never, 'logLikelihood', options as never),
    inputs: () => ({ ...rows(), ...sequences() }),
    arguments: [...LOGITS, CU_SEQLENS, MASK, OLD],
    options: [TEMPERATURE, ON_NON_FINITE, BACKEND],
  },
];

/** Copies of the bytes of every array in a value. */
function bytesIn(value: unknown): Uint8Array[] {
  if (ArrayBuffer.isView(value)) return [new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice()];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}

interface Refusal {
  code: string;
  message: RegExp;
}

async function expectRefusal(
  { run, runSync }: Pick<Subject, 'run' | 'runSync'>,
  inputs: unknown,
  options: unknown,
  refusal: Refusal,
  what: string,
) {
  const before = bytesIn([inputs, options]);
  for (const call of [async () => runSync(inputs, options), async () => run(inputs, options)]) {
    const error = await call().then(
      () => expect.fail(`${what}: accepted`),
      (reason: unknown) => reason,
    );
    expect(error, `${what}: ${error}`).toBeInstanceOf(RlvrError);
    expect((error as RlvrError).message, what).toMatch(refusal.message);
    expect((error as RlvrError).code, `${what}: ${error}`).toBe(refusal.code);
  }
  expect(bytesIn([inputs, options]), `${what}: bytes written`).toEqual(before);
}

const named = (name: string, rest: string) =>
  new RegExp(`^${name.replaceAll('.', '\\.')}.*: expected .*, got .*${rest}`);

/** Wrong types of one argument, and what the message says of each. */
function wrongTypes({ is, optional }: Argument): [value: unknown, got: string][] {
  const others = {
    floats: new Int32Array(4),
    targets: new Uint32Array(4),
    offsets: new Float64Array(3),
    mask: new Int8Array(4),
    logits: new Float64Array(12),
  };
  return [
    [others[is], `${others[is].constructor.name} of length ${others[is].length}`],
    [[0, 1, 2], 'an Array of length 3'],
    [new BigInt64Array(4), 'BigInt64Array of length 4'],
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
  describe.each(SUBJECTS)('$name', (subject) => {
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
        // A batch without logits or log-probs is told so.
        const missing = value === undefined && ['logits', 'logProbs'].includes(argument.name);
        if (
          missing &&
          subject.arguments.some(({ name }) => name === 'cuSeqlens') &&
          /conspo|grpo|forward/.test(subject.name)
        )
          continue;
        const what = `${argument.name} = ${String(got)}`;
        // An array without data, shape and dtype is no tensor: the message may say so of its data.
        const shown = argument.is === 'logits' && /^an Array|^ArrayBuffer/.test(got) ? '' : got.replace(/[()"]/g, '.');
        await expectRefusal(
          subject,
          { ...subject.inputs(), [argument.name]: value },
          safe,
          { code: 'ERR_DTYPE', message: named(argument.name, shown) },
          what,
        );
      }
    });

    test.each(subject.arguments.filter(({ defines, is }) => !defines && is !== 'offsets' && is !== 'logits'))(
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
            { data: data(), shape: [4, 2 ** 60] },
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
        const argument = option === 'gradient' ? 'gradient' : option;
        const code = option === 'backend' ? 'ERR_BACKEND' : 'ERR_';
        const extra = option === 'maxLength' ? { aggregation: 'constant-length' } : {};
        const what = `${option} = ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`;
        const error = await Promise.resolve()
          .then(() => subject.run(subject.inputs(), { ...safe, ...extra, [option]: value }))
          .then(
            () => expect.fail(`${what}: accepted`),
            (reason: unknown) => reason as RlvrError,
          );
        expect(error, `${what}: ${error}`).toBeInstanceOf(RlvrError);
        expect(error.code, what).toContain(code);
        await expectRefusal(
          subject,
          subject.inputs(),
          { ...safe, ...extra, [option]: value },
          { code: error.code, message: new RegExp(`^${argument}.*: expected .*, got `) },
          what,
        );
      }
    });
  });

  const conspo: Pick<Subject, 'run' | 'runSync'> = { run: rlvr.conspo as Call, runSync: rlvr.conspoSync as Call };
  const fromLogits = (): Fields => ({ ...rows(), ...sequences(), ...groups() });
  const fromLogProbs = (): Fields => ({ ...logProbs(), ...sequences(), ...groups() });

  test('an out array that does not fit, and what it held', async () => {
    const filled = (length: number) => new Float32Array(length).fill(7);
    const shared = new Float32Array(20).fill(1);
    const cases: [inputs: Fields, out: unknown, code: string, message: RegExp][] = [
      [fromLogits(), filled(13), 'ERR_SHAPE', /^gradient\.out: .*, got 13$/],
      [fromLogits(), filled(16), 'ERR_SHAPE', /^gradient\.out: expected V = 3, got 4$/],
      [fromLogits(), new Float64Array(12), 'ERR_DTYPE', /^gradient\.out.*, got Float64Array/],
      [
        fromLogits(),
        { data: new Uint16Array(12), shape: [4, 3], dtype: 'bf16' },
        'ERR_DTYPE',
        /^gradient\.out: .*dtype/,
      ],
      [
        { ...fromLogits(), logits: shared.subarray(0, 12) },
        shared.subarray(3, 15),
        'ERR_RANGE',
        /^gradient\.out: .*overlap/,
      ],
      [fromLogProbs(), filled(5), 'ERR_SHAPE', /^gradient\.out: expected length 4 .*, got length 5$/],
      [fromLogProbs(), new Int32Array(4), 'ERR_DTYPE', /^gradient\.out: .*, got Int32Array/],
    ];
    for (const [inputs, out, code, message] of cases) {
      await expectRefusal(conspo, inputs, { backend, gradient: { out } }, { code, message }, String(message));
    }
  });

  test('a bad argument beside a good out array leaves it alone', async () => {
    const out = new Float32Array(12).fill(7);
    const bad: [Fields, Refusal][] = [
      [{ rewards: Float32Array.of(1, NaN) }, { code: 'ERR_NONFINITE', message: /^rewards: .*NaN at index 1/ }],
      [{ targets: Int32Array.of(0, 1, 2, 3) }, { code: 'ERR_RANGE', message: /^targets/ }],
      [{ cuGroups: Int32Array.of(0, 3) }, { code: 'ERR_SHAPE', message: /^cuGroups/ }],
      [
        { logits: new Float32Array(12).fill(NaN) },
        { code: 'ERR_NONFINITE', message: /^logits: .*3 non-finite.*row 0/ },
      ],
    ];
    for (const [patch, refusal] of bad) {
      await expectRefusal(
        conspo,
        { ...fromLogits(), ...patch },
        { backend, gradient: { out } },
        refusal,
        String(refusal.message),
      );
    }
  });

  test('logits or log-probs, not both or neither', async () => {
    const both = { ...fromLogits(), ...fromLogProbs() };
    const neither = { ...fromLogits(), logits: undefined };
    const message = (got: string) => new RegExp(`^batch: expected either logits .* or logProbs, got ${got}$`);
    await expectRefusal(conspo, both, { backend }, { code: 'ERR_DTYPE', message: message('both') }, 'both');
    await expectRefusal(conspo, neither, { backend }, { code: 'ERR_DTYPE', message: message('neither') }, 'neither');
  });

  test('every parameter of a score', async () => {
    const parameters: [string, unknown[]][] = [
      ['kind', ['Ratio', '', undefined, 3]],
      ['epsilonLow', NEGATIVE],
      ['epsilonHigh', NEGATIVE],
      ['ratioMin', NEGATIVE],
      ['ratioMax', [NaN, -1, Infinity]],
      ['tauPos', [0, -1, NaN, Infinity]],
      ['tauNeg', [0, -1, NaN, Infinity]],
    ];
    const ratio = { run: rlvr.ratioScores as Call, runSync: rlvr.ratioScoresSync as Call };
    for (const [name, values] of parameters) {
      for (const value of values) {
        const score = { kind: 'clippedRatio', [name]: value };
        const refusal = { code: 'ERR_RANGE', message: new RegExp(`^(score\\.)?${name}: expected .*, got `) };
        await expectRefusal(ratio, fromLogProbs(), { backend, score }, refusal, `${name} = ${value}`);
        const forward = {
          run: (inputs: unknown) => rlvr.forward(inputs as never, score as never, { backend }),
          runSync: (inputs: unknown) => rlvr.forwardSync(inputs as never, score as never, { backend }),
        };
        await expectRefusal(forward, fromLogProbs(), undefined, refusal, `forward, ${name} = ${value}`);
      }
    }
    for (const score of ['likelihood', undefined, null, 5]) {
      const forward = {
        run: (inputs: unknown) => rlvr.forward(inputs as never, score as never, { backend }),
        runSync: (inputs: unknown) => rlvr.forwardSync(inputs as never, score as never, { backend }),
      };
      const code = typeof score === 'string' ? 'ERR_RANGE' : 'ERR_DTYPE';
      await expectRefusal(forward, fromLogits(), undefined, { code, message: /^score: expected / }, String(score));
    }
  });

  test('backward of forward: gradScores and gradient', async () => {
    const inputs = fromLogits();
    const before = bytesIn(inputs);
    const handle = await rlvr.forward(inputs as never, 'logLikelihood', { backend });
    const handleSync = rlvr.forwardSync(inputs as never, 'logLikelihood', { backend });
    const subject = { run: handle.backward as Call, runSync: handleSync.backward as Call };
    const good = Float64Array.of(1, -1);
    const inPlace = { gradient: 'in-place' };
    const bad: [gradScores: unknown, options: unknown, code: string, message: RegExp][] = [
      [Float64Array.of(1), inPlace, 'ERR_SHAPE', /^gradScores: expected length 2 .*, got length 1$/],
      [[1, -1], inPlace, 'ERR_DTYPE', /^gradScores: .*an Array of length 2$/],
      [Float64Array.of(1, NaN), inPlace, 'ERR_NONFINITE', /^gradScores: .*NaN at index 1$/],
      [good, { gradient: 'other' }, 'ERR_RANGE', /^gradient: /],
      [good, { gradient: { out: new Float32Array(3) } }, 'ERR_SHAPE', /^gradient\.out: /],
      [good, null, 'ERR_DTYPE', /^options: expected an object/],
    ];
    for (const [gradScores, options, code, message] of bad) {
      await expectRefusal(subject, gradScores, options, { code, message }, String(message));
    }
    expect(bytesIn(inputs)).toEqual(before);
  });

  test('what grpo wants together', async () => {
    const grpo = { run: rlvr.grpo as Call, runSync: rlvr.grpoSync as Call };
    const advantages = Float64Array.of(1, -1);
    const bad: [patch: Fields, options: Fields, message: RegExp][] = [
      [{}, { klCoef: 0.1 }, /^refLogProbs: expected .* klCoef.*, got undefined$/],
      [{}, { aggregation: 'constant-length' }, /^maxLength: expected .*, got undefined$/],
      [{ refLogProbs: new Float64Array(4) }, { form: 'discriminative', klCoef: 0.1 }, /^klCoef: /],
      [{ advantages }, { form: 'discriminative' }, /^advantages: /],
      [{}, { advantage: { estimator: 'gae' } }, /^estimator: .*"gae"$/],
      [{}, { advantage: { ddof: 2 } }, /^ddof: .*2$/],
      [{}, { advantage: { eps: -1 } }, /^eps: .*-1$/],
      [{}, { advantage: { eps: NaN } }, /^eps: .*NaN$/],
    ];
    for (const [patch, options, message] of bad) {
      const code = message.source.startsWith('^refLogProbs') ? 'ERR_DTYPE' : 'ERR_RANGE';
      await expectRefusal(
        grpo,
        { ...fromLogits(), ...patch },
        { backend, ...options },
        { code, message },
        String(message),
      );
    }
  });
});

describe('refused by advantages and cosineMargin', () => {
  const inputs = () => ({ rewards: Float32Array.of(1, 0, 0), cuGroups: Int32Array.of(0, 3) });
  test.each([
    [{ rewards: [1, 0] }, {}, 'ERR_DTYPE', /^rewards: .*an Array of length 2$/],
    [{ rewards: Float32Array.of(1, NaN, 0) }, {}, 'ERR_NONFINITE', /^rewards: .*NaN at index 1$/],
    [{ cuGroups: Int32Array.of(0, 4) }, {}, 'ERR_SHAPE', /^cuGroups: .* 3 .*, got 4$/],
    [{}, { estimator: 'opo' }, 'ERR_DTYPE', /^tokenCounts: .*undefined$/],
    [{ tokenCounts: Float64Array.of(1, 2) }, {}, 'ERR_SHAPE', /^tokenCounts: .* 3 .*length 2$/],
    [{ tokenCounts: Float64Array.of(1, -2, 1) }, { estimator: 'opo' }, 'ERR_RANGE', /^tokenCounts: .*-2 at index 1$/],
    [{}, { ddof: 0.5 }, 'ERR_RANGE', /^ddof: .*0\.5$/],
    [{}, null, 'ERR_DTYPE', /^options: .*null$/],
  ])('%o %o', (patch, options, code, message) => {
    const call = () => rlvr.advantages({ ...inputs(), ...patch } as never, options as never);
    expect(call).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });

  test.each([
    [{ warmup: 0 }, 0, /^warmup: .*0$/],
    [{ warmup: 1.5 }, 0, /^warmup: .*1\.5$/],
    [{ target: NaN }, 0, /^target: .*NaN$/],
    [{ target: 1 }, 1.01, /^progress: .*1\.01$/],
    [{ target: 1 }, NaN, /^progress: .*NaN$/],
  ])('%o at %d', (parameters, progress, message) => {
    const call = () => rlvr.cosineMargin(parameters)(progress);
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_RANGE', message: expect.stringMatching(message) }));
  });
});
