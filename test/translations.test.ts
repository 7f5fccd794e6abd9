// Settings of TRL and verl as losses of this package. That these compute the same is what `npm run conformance` shows.
import { describe, expect, test } from 'vitest';
import { callText } from '../bench/conformance/text.js';
import { TRL_SETTINGS } from '../bench/conformance/trl-settings.js';
import { VERL_SETTINGS } from '../bench/conformance/verl-settings.js';
import type * as rlvr from '../lib/index.js';
import { fromTrl, fromVerl, type LossTranslation, type VerlConfig } from '../lib/index.js';
import { LOSSES } from '../lib/losses/list.js';
import { rlvrError } from './support/errors.js';

describe('settings of TRL', () => {
  const call = (config: Parameters<typeof fromTrl>[0]) => callText(fromTrl(config));

  test.each([
    [{}, 'dapo(batch, { epsilonHigh: 0.2 })'],
    [{ loss_type: 'grpo' }, 'grpo(batch)'],
    [
      { loss_type: 'grpo', importance_sampling_level: 'sequence' },
      'gspo(batch, { epsilonLow: 0.2, epsilonHigh: 0.2 })',
    ],
    [{ loss_type: 'bnpo', importance_sampling_level: 'sequence' }, "bnpo(batch, { ratioLevel: 'sequence' })"],
    [{ loss_type: 'dr_grpo', max_completion_length: 64, scale_rewards: 'none' }, 'drGrpo(batch, { maxLength: 64 })'],
    [{ loss_type: 'cispo' }, 'cispo(batch, { ratioMax: 0.2 })'],
    [{ loss_type: 'sapo', beta: 0.04 }, "sapo(batch, { klCoef: 0.04, klWeight: 'ratio' })"],
    [{ loss_type: 'grpo', beta: 0.04, use_bias_correction_kl: false }, 'grpo(batch, { klCoef: 0.04 })'],
    [{ loss_type: 'grpo', gradient_accumulation_steps: 4 }, 'grpo(batch, { normalizer: 4 * sequences })'],
    [{ loss_type: 'bnpo', gradient_accumulation_steps: 4 }, 'bnpo(batch, { normalizer: 4 * tokens })'],
    [
      { loss_type: 'grpo', use_vllm: true, vllm_importance_sampling_clip_max: null },
      "grpo(batch, { rolloutCorrection: { level: 'sequence', mode: 'mask', max: Infinity, missing: 'one' } })",
    ],
  ] as const)('%j', (config, text) => {
    expect(call(config)).toBe(text);
  });

  test('name what has no counterpart', () => {
    expect(fromTrl({ entropy_target: 0.2 }).without).toEqual([expect.stringMatching(/^entropy_target: /)]);
    expect(fromTrl({ loss_type: 'vespo', use_vllm: true }).without).toHaveLength(1);
    expect(fromTrl({ loss_type: 'grpo', beta: 1, use_vllm: true }).without).toEqual([]);
  });
});

describe('settings of verl', () => {
  test.each([
    [{}, 'dapo(batch, { epsilonHigh: 0.2, dualClip: 3 })'],
    [{ loss_agg_mode: 'seq-mean-token-mean' }, 'grpo(batch, { dualClip: 3 })'],
    [{ loss_agg_mode: 'seq-mean-token-sum-norm' }, 'drGrpo(batch, { dualClip: 3, maxLength: 100 })'],
    [{ batch_num_tokens: 1000, dp_size: 4 }, 'dapo(batch, { epsilonHigh: 0.2, dualClip: 3, normalizer: 250 })'],
    [{ loss_mode: 'cispo', clip_ratio_high: 0.28 }, 'cispo(batch, { ratioMin: 0.8, ratioMax: 1.28 })'],
    [{ loss_mode: 'gspo', loss_agg_mode: 'token-mean', clip_ratio_low: 3e-4, clip_ratio_high: 4e-4 }, 'gspo(batch)'],
    [
      { loss_mode: 'clip_cov', clip_cov_ratio: 2, clip_cov_lb: 0 },
      'dapo(batch, { epsilonHigh: 0.2, clipCov: { ratio: 1, low: 0 } })',
    ],
    [
      { loss_mode: 'kl_cov', loss_agg_mode: 'seq-mean-token-mean' },
      "dapo(batch, { epsilonLow: Infinity, epsilonHigh: Infinity, aggregation: 'sequence-mean', klCov: { coef: 0.1 } })",
    ],
    [
      { rollout_is: 'token', rollout_is_threshold: '0.5_5.0' },
      "dapo(batch, { epsilonHigh: 0.2, dualClip: 3, rolloutCorrection: { mode: 'mask', min: 0.5, max: 5 } })",
    ],
  ] as const)('%j', (config, text) => {
    expect(callText(fromVerl(config, { length: 100 }))).toBe(text);
  });

  test('name what is drawn at random, unless all are taken', () => {
    const { without } = fromVerl({ loss_mode: 'clip_cov' }, { length: 1 });
    expect(without).toEqual([expect.stringMatching(/^loss_mode: .*chance/)]);
    expect(fromVerl({ loss_mode: 'clip_cov', clip_cov_ratio: 1 }, { length: 1 }).without).toEqual([]);
    expect(fromVerl({ loss_mode: 'kl_cov' }, { length: 1 }).without).toEqual([]);
  });

  test('give bounds of k1 as logarithms', () => {
    const { options } = fromVerl({ rollout_rs: 'seq_mean_k1', rollout_rs_threshold: 2 }, { length: 1 });
    const reject = { by: 'k1', level: 'sequence-mean', min: -Math.LN2, max: Math.LN2 };
    expect(options.rolloutCorrection).toEqual({ level: 'none', reject });
  });
});

const [TOKENS, VOCABULARY] = [6, 5];
const logProbs = (shift: number) => Float64Array.from({ length: TOKENS }, (_, t) => -1.5 - 0.1 * Math.sin(t + shift));

/** Two groups of two answers, with all that a loss may read. */
const batch = () => ({
  logits: Float32Array.from({ length: TOKENS * VOCABULARY }, (_, i) => Math.sin(i)),
  targets: Int32Array.from({ length: TOKENS }, (_, t) => t % VOCABULARY),
  cuSeqlens: Int32Array.of(0, 2, 3, 5, 6),
  cuGroups: Int32Array.of(0, 2, 4),
  rewards: Float64Array.of(1, 0, 0, 1),
  oldLogProbs: logProbs(0),
  refLogProbs: logProbs(1),
  rolloutLogProbs: logProbs(2),
});

/** Runs the loss on the least batch that the translation asks for. */
function run({ loss, options, normalizer, old, fields }: LossTranslation) {
  const { refLogProbs, rolloutLogProbs, oldLogProbs, ...rest } = batch();
  const needed = {
    ...(old !== false && { oldLogProbs }),
    ...(fields.some((field) => field.startsWith('refLogProbs')) && { refLogProbs }),
    ...(fields.includes('rolloutLogProbs') && { rolloutLogProbs }),
  };
  const runSync = LOSSES[loss].runSync as unknown as (batch: object, options: object) => { loss: number };
  const divisor = normalizer && { normalizer: normalizer.times * (normalizer.of === 'tokens' ? TOKENS : 4) };
  return runSync({ ...rest, ...needed }, { ...options, ...divisor, backend: 'reference' });
}

describe('every loss takes the options of its translations', () => {
  test.each(TRL_SETTINGS.map(({ config }) => [JSON.stringify(config), config] as const))('TRL %s', (_, config) => {
    const gdpo = config.multi_objective_aggregation === 'normalize_then_sum';
    if (!gdpo) expect(run(fromTrl(config)).loss).toEqual(expect.any(Number));
  });

  const losses = VERL_SETTINGS.filter(({ call }) => call.loss !== 'advantages' && call.without.length === 0);
  test.each(losses.map(({ config }) => [JSON.stringify(config), config as VerlConfig] as const))(
    'verl %s',
    (_, config) => {
      expect(run(fromVerl(config, { length: 8 })).loss).toEqual(expect.any(Number));
    },
  );
});

const trl = (config: object) => () => fromTrl(config as rlvr.TrlConfig);
const verl =
  (config: object, of: object = { length: 8 }) =>
  () =>
    fromVerl(config as VerlConfig, of as rlvr.VerlBatch);

describe('bad settings', () => {
  test.each([
    [
      'a name that is misspelt',
      trl({ epsilon_hihg: 0.3 }),
      'ERR_OPTION',
      /^epsilon_hihg: no such option of fromTrl.*epsilon_high/,
    ],
    [
      'one that changes no loss',
      trl({ learning_rate: 1e-6 }),
      'ERR_OPTION',
      /^learning_rate: no such option of fromTrl/,
    ],
    ['an unknown word', trl({ loss_type: 'ppo' }), 'ERR_RANGE', /^loss_type: expected 'grpo' or /],
    [
      'a number below 0',
      trl({ epsilon: -0.1 }),
      'ERR_RANGE',
      /^epsilon: expected a finite number at least 0, got -0.1$/,
    ],
    ['a null', trl({ epsilon: null }), 'ERR_RANGE', /^epsilon: expected a number, got /],
    ['a number for a flag', trl({ use_vllm: 1 }), 'ERR_RANGE', /^use_vllm: expected true or false, got /],
    ['no settings', trl(undefined as never), 'ERR_DTYPE', /^config: expected an object/],
    ['an unknown loss mode', verl({ loss_mode: 'ppo' }), 'ERR_RANGE', /^loss_mode: expected 'vanilla' or /],
    [
      'three bounds',
      verl({ rollout_is_threshold: '1_2_3' }),
      'ERR_RANGE',
      /^rollout_is_threshold: expected a number, or/,
    ],
    ['no number', verl({ rollout_is_threshold: '1_x' }), 'ERR_RANGE', /^rollout_is_threshold: /],
    ['no length', verl({}, {}), 'ERR_RANGE', /^length: expected a number/],
  ])('%s', (_, call, code, message) => {
    expect(call).toThrow(rlvrError(code, message) as Error);
  });

  test('null is a value where it is one in Python', () => {
    expect(fromTrl({ epsilon_high: null, delta: null })).toEqual(fromTrl({}));
  });
});
