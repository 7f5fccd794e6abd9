// Mistakes that a trainer makes on its way from samples to a step, each through fromRollouts, microBatches and an adapter as a trainer calls
// them: every one stops with an error that names it. What the compiler already refuses is in test/types/adapters.test-d.ts; here it is
// written past the compiler.
import * as jax from '@jax-js/jax';
import { beforeAll, describe, expect, test } from 'vitest';
import { type AnyLossOptions, type AnyLossSync, lossesSync, microBatches } from '../lib/index.js';
import { lossAndGrad as jaxLoss } from '../lib/jax/index.js';
import type { LossName } from '../lib/losses/list.js';
import { lossAndGrad as tfjsLoss } from '../lib/tfjs/index.js';
import { logitsOf, plain, rolloutsOf, VOCAB } from './support/adapters.js';
import { rlvrError } from './support/errors.js';
import { openTensorflow } from './support/tfjs.js';

type Rollouts = ReturnType<typeof rolloutsOf>;
/** One step: the loss of a batch with the logits of a model. */
type Step = (
  loss: AnyLossSync,
  batch: Rollouts,
  options: AnyLossOptions,
  logits: Float32Array,
  shape: number[],
) => void;

let tf: Awaited<ReturnType<typeof openTensorflow>>;
beforeAll(async () => {
  tf = await openTensorflow('wasm');
  await jax.init('wasm');
});

const STEPS: [string, Step][] = [
  [
    'TensorFlow.js',
    (loss, batch, options, logits, shape) =>
      tf.tidy(() => {
        tf.grad((x) => tfjsLoss(tf, loss, batch, options)(x))(tf.tensor(logits, shape));
      }),
  ],
  [
    'jax-js',
    (loss, batch, options, logits, shape) => {
      const array = jax.numpy.array(logits.slice(), { shape });
      jaxLoss(jax, loss, batch, options)(array).gradLogits.dispose();
    },
  ],
];

describe.each(STEPS)('with %s', (_framework, step) => {
  const sampled = rolloutsOf(1);
  const [rows, length] = sampled.shape;
  const logits = logitsOf(2, sampled);
  /** As the sampler would have said it, of the same logits. */
  const oldLogProbs = plain('conspo', sampled, logits, { logProbs: true }).logProbs!;
  const rollouts = { ...sampled, oldLogProbs };
  const train = ({
    batch = rollouts,
    loss = 'grpo' as LossName,
    options = {} as object,
    shape = [rows, length, VOCAB],
    output = logits,
  } = {}) => {
    for (const part of microBatches(batch, { sequences: rows, loss, options: { expectOnPolicy: true, ...options } }))
      step(lossesSync[loss], part.batch, part.options, output, shape);
  };

  test('none: the first step goes well', () => {
    expect(() => train()).not.toThrow();
  });

  test('a misspelt key of the batch', () => {
    const { oldLogProbs: old_log_probs, ...others } = rollouts;
    expect(() => train({ batch: { ...others, old_log_probs } as never })).toThrow(
      rlvrError('ERR_OPTION', 'old_log_probs: no such field of a batch; did you mean oldLogProbs?'),
    );
  });

  test('a misspelt option', () => {
    expect(() => train({ options: { epsilonHgih: 0.3 } })).toThrow(
      rlvrError('ERR_OPTION', 'epsilonHgih: no such option of grpo; did you mean epsilonHigh?'),
    );
  });

  test('logits of other rows: those of L - 1 positions', () => {
    const output = logits.subarray(0, rows * (length - 1) * VOCAB);
    const expected = rlvrError('ERR_SHAPE', 'logits.shape: expected');
    expect(() => train({ output, shape: [rows, length - 1, VOCAB] })).toThrow(expected);
    expect(() => train({ output, shape: [rows * (length - 1), VOCAB] })).toThrow(expected);
  });

  test('a forgotten shift: each row scores its own token', () => {
    const { inputIds: targets } = rollouts;
    expect(() => train({ batch: { ...rollouts, targets } })).toThrow(
      rlvrError('ERR_RANGE', /oldLogProbs: expected those of the current policy.*not shifted/),
    );
  });

  test('probabilities for log-probs, and log-probs without their sign', () => {
    const refused = (change: (logProb: number) => number) =>
      expect(() => train({ batch: { ...rollouts, oldLogProbs: oldLogProbs.map(change) } }));
    refused((l) => -l).toThrow(rlvrError('ERR_RANGE', 'oldLogProbs'));
    refused(Math.exp).toThrow(rlvrError('ERR_RANGE', 'oldLogProbs'));
  });

  test('Dr. GRPO without a maxLength', () => {
    expect(() => train({ loss: 'drGrpo' })).toThrow(rlvrError('ERR_RANGE', 'maxLength'));
    expect(() => train({ loss: 'drGrpo', options: { maxLength: length } })).not.toThrow();
  });

  test('a switched loss with the options of the other one', () => {
    const options = { tau: 0.2 };
    expect(() => train({ loss: 'conspo', options })).not.toThrow();
    expect(() => train({ loss: 'grpo', options })).toThrow(rlvrError('ERR_OPTION', 'tau: no such option of grpo'));
    expect(() => train({ loss: 'ppo' as LossName })).toThrow(rlvrError('ERR_RANGE', 'loss: expected'));
  });
});
