// Refused arguments where it takes more than one of them to be wrong, or a call other than that of an op or loss: arrays
// for the gradient, logits beside log-probs, parameters of scores, a backward pass, advantages and schedules.
import { describe, expect, test } from 'vitest';
import * as rlvr from '../lib/index.js';
import { describeBackends } from './support/backends.js';
import { rlvrError } from './support/errors.js';
import {
  bytesIn,
  type Call,
  type Callable,
  expectRefusal,
  type Fields,
  groups,
  logProbs,
  type Refusal,
  rows,
  sequences,
} from './support/refusals.js';
import { NEGATIVE, NO_BOUND } from './support/subjects.js';

const conspo: Callable = { run: rlvr.conspo as Call, runSync: rlvr.conspoSync as Call };
const fromLogits = (): Fields => ({ ...rows(), ...sequences(), ...groups() });
const fromLogProbs = (): Fields => ({ ...logProbs(), ...sequences(), ...groups() });

describeBackends('refused', (backend) => {
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
    const message = (got: string) => new RegExp(`^batch: expected one of logits .* and logProbs, got ${got}$`);
    await expectRefusal(
      conspo,
      both,
      { backend },
      { code: 'ERR_DTYPE', message: message('logits and logProbs') },
      'both',
    );
    await expectRefusal(
      conspo,
      neither,
      { backend },
      { code: 'ERR_DTYPE', message: message('none of them') },
      'neither',
    );
  });

  test('every parameter of a score', async () => {
    const parameters: [string, unknown[]][] = [
      ['kind', ['Ratio', '', undefined, 3]],
      ['epsilonLow', NO_BOUND],
      ['epsilonHigh', NO_BOUND],
      ['ratioMin', NEGATIVE],
      ['ratioMax', NO_BOUND],
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
      [[1, '-1'], inPlace, 'ERR_DTYPE', /^gradScores: expected numbers, got "-1" at index 1$/],
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
    [{ rewards: [1, null] }, {}, 'ERR_DTYPE', /^rewards: expected numbers, got null at index 1$/],
    [{ rewards: Float32Array.of(1, NaN, 0) }, {}, 'ERR_NONFINITE', /^rewards: .*NaN at index 1$/],
    [{ cuGroups: Int32Array.of(0, 4) }, {}, 'ERR_SHAPE', /^cuGroups: .* 3 .*, got 4$/],
    [{}, { estimator: 'opo' }, 'ERR_DTYPE', /^tokenCounts: .*undefined$/],
    [{ tokenCounts: Float64Array.of(1, 2) }, {}, 'ERR_SHAPE', /^tokenCounts: .* 3 .*length 2$/],
    [{ tokenCounts: Float64Array.of(1, -2, 1) }, { estimator: 'opo' }, 'ERR_RANGE', /^tokenCounts: .*-2 at index 1$/],
    [{}, { ddof: 0.5 }, 'ERR_RANGE', /^ddof: .*0\.5$/],
    [{}, null, 'ERR_DTYPE', /^options: .*null$/],
  ])('%o %o', (patch, options, code, message) => {
    const call = () => rlvr.advantages({ ...inputs(), ...patch } as never, options as never);
    expect(call).toThrow(rlvrError(code, message));
  });

  test.each([
    [{ warmup: 0 }, 0, /^warmup: .*0$/],
    [{ warmup: 1.5 }, 0, /^warmup: .*1\.5$/],
    [{ target: NaN }, 0, /^target: .*NaN$/],
    [{ target: 1 }, 1.01, /^progress: .*1\.01$/],
    [{ target: 1 }, NaN, /^progress: .*NaN$/],
  ])('%o at %d', (parameters, progress, message) => {
    const call = () => rlvr.cosineMargin(parameters)(progress);
    expect(call).toThrow(rlvrError('ERR_RANGE', message));
  });
});
