// TRL's settings of GRPOConfig (read in 1.13.0) as a loss of this package with its options, or what of them has no counterpart.
import type { LossName } from '../losses/list.js';
import {
  flag,
  type LossTranslation,
  number,
  type Options,
  orNull,
  type Rule,
  settings,
  unless,
  withReasons,
  word,
} from './translation.js';

/** The settings that change the loss, by TRL's names. What is left out has TRL's default. */
export interface TrlConfig {
  /** Default `'dapo'`. */
  loss_type?: 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo' | 'luspo' | 'cispo' | 'sapo' | 'vespo' | undefined;
  /** Default `'token'`. */
  importance_sampling_level?: 'token' | 'sequence' | undefined;
  /** At least 0. Default 0.2. */
  epsilon?: number | undefined;
  /** At least 0. Default: `epsilon`. */
  epsilon_high?: number | null | undefined;
  /** Above 0. Default: none. */
  delta?: number | null | undefined;
  /** At least 0. Default 0. */
  beta?: number | undefined;
  /** Default true. */
  use_bias_correction_kl?: boolean | undefined;
  /** Above 0. Default 1. */
  temperature?: number | undefined;
  /** What `dr_grpo` divides by. Default 512. */
  max_completion_length?: number | undefined;
  /** Above 0. Default 1. */
  sapo_temperature_pos?: number | undefined;
  /** Above 0. Default 1.05. */
  sapo_temperature_neg?: number | undefined;
  /** At least 0. Default 2. */
  vespo_k_pos?: number | undefined;
  /** At least 0. Default 3. */
  vespo_lambda_pos?: number | undefined;
  /** At least 0. Default 3. */
  vespo_k_neg?: number | undefined;
  /** At least 0. Default 2. */
  vespo_lambda_neg?: number | undefined;
  /** Default `'group'`. */
  scale_rewards?: 'group' | 'batch' | 'none' | undefined;
  /** Default `'sum_then_normalize'`. */
  multi_objective_aggregation?: 'sum_then_normalize' | 'normalize_then_sum' | undefined;
  /** From 0 to 1. Default 1: all tokens. */
  top_entropy_quantile?: number | undefined;
  /** Default: none. */
  off_policy_mask_threshold?: number | null | undefined;
  /** At least 0. Default 0. */
  entropy_coef?: number | undefined;
  /** Has no counterpart. Default: none. */
  entropy_target?: number | null | undefined;
  /** Whether the batch has log-probs of the engine that sampled. Default false. */
  use_vllm?: boolean | undefined;
  /** Only with `use_vllm`. Default true. */
  vllm_importance_sampling_correction?: boolean | undefined;
  /** Default `'sequence_mask'`. */
  vllm_importance_sampling_mode?: 'token_truncate' | 'token_mask' | 'sequence_truncate' | 'sequence_mask' | undefined;
  /** At least 0. Default: none. */
  vllm_importance_sampling_clip_min?: number | null | undefined;
  /** At least 0; null: none. Default 3. */
  vllm_importance_sampling_clip_max?: number | null | undefined;
  /** TRL divides by it. Default 1. */
  gradient_accumulation_steps?: number | undefined;
  /** Default: `gradient_accumulation_steps`. */
  steps_per_generation?: number | undefined;
  /** Changes no loss; above 1, TRL computes old log-probs. Default 1. */
  num_iterations?: number | undefined;
  /** Drops completions by the mask, which is the caller's here. Default false. */
  mask_truncated_completions?: boolean | undefined;
}

const LOSSES = {
  ...({ grpo: 'grpo', bnpo: 'bnpo', dr_grpo: 'drGrpo', dapo: 'dapo' } as const),
  ...({ luspo: 'luspo', cispo: 'cispo', sapo: 'sapo', vespo: 'vespo' } as const),
};

const POSITIVE = number({ above: 0 });
const NOT_NEGATIVE = number({ min: 0 });
const COUNT = number({ min: 1, integer: true });
const RULES: Readonly<Record<keyof TrlConfig, Rule>> = {
  loss_type: word(...Object.keys(LOSSES)),
  importance_sampling_level: word('token', 'sequence'),
  epsilon: NOT_NEGATIVE,
  epsilon_high: orNull(NOT_NEGATIVE),
  delta: orNull(POSITIVE),
  beta: NOT_NEGATIVE,
  use_bias_correction_kl: flag,
  temperature: POSITIVE,
  max_completion_length: COUNT,
  sapo_temperature_pos: POSITIVE,
  sapo_temperature_neg: POSITIVE,
  vespo_k_pos: NOT_NEGATIVE,
  vespo_lambda_pos: NOT_NEGATIVE,
  vespo_k_neg: NOT_NEGATIVE,
  vespo_lambda_neg: NOT_NEGATIVE,
  scale_rewards: word('group', 'batch', 'none'),
  multi_objective_aggregation: word('sum_then_normalize', 'normalize_then_sum'),
  top_entropy_quantile: number({ min: 0, max: 1 }),
  off_policy_mask_threshold: orNull(number()),
  entropy_coef: NOT_NEGATIVE,
  entropy_target: orNull(number()),
  use_vllm: flag,
  vllm_importance_sampling_correction: flag,
  vllm_importance_sampling_mode: word('token_truncate', 'token_mask', 'sequence_truncate', 'sequence_mask'),
  vllm_importance_sampling_clip_min: orNull(NOT_NEGATIVE),
  vllm_importance_sampling_clip_max: orNull(NOT_NEGATIVE),
  gradient_accumulation_steps: COUNT,
  steps_per_generation: COUNT,
  num_iterations: COUNT,
  mask_truncated_completions: flag,
};

/** Widths of the clip, where a loss's own are not 0.2 and 0.2. */
const WIDTHS: Readonly<Record<string, readonly [low: number, high: number]>> = {
  ...{ dapo: [0.2, 0.28], gspo: [3e-4, 4e-4], luspo: [3e-4, 4e-4] },
};

/**
 * The loss and options that compute what TRL 1.13's `GRPOTrainer` does with these settings of its `GRPOConfig`, and the names of those
 * that have no counterpart. `docs/conformance.md` says how nearly they agree. Settings that change no loss, such as a learning
 * rate, are not taken.
 *
 * @example
 * ```ts
 * import { fromTrl } from 'rlvr-kernels';
 *
 * const { loss, options, without } = fromTrl({ loss_type: 'grpo', beta: 0.04, epsilon_high: 0.28 });
 * console.log(loss, options, without.length); // => grpo { epsilonHigh: 0.28, klCoef: 0.04, klWeight: 'ratio' } 0
 * ```
 *
 * @throws RlvrError `ERR_OPTION` for a setting that is not among them, `ERR_RANGE` for a value that it does not have in TRL.
 */
export function fromTrl(given: TrlConfig): LossTranslation {
  const config = settings('fromTrl', given, RULES);
  const { loss_type = 'dapo', importance_sampling_level: level = 'token', beta = 0 } = config;
  const loss: LossName = loss_type === 'grpo' && level === 'sequence' ? 'gspo' : LOSSES[loss_type];
  const corrects = config.use_vllm === true && config.vllm_importance_sampling_correction !== false;
  const options = {
    ...ratioLevel(loss, level),
    ...scoreOptions(loss, config),
    ...(beta !== 0 && { klCoef: beta, ...(config.use_bias_correction_kl !== false && { klWeight: 'ratio' }) }),
    ...unless({ temperature: 1 }, { temperature: config.temperature ?? 1 }),
    ...advantage(loss, config),
    ...masks(config),
    ...entropyBonus(loss, config),
    ...(corrects && loss !== 'vespo' && { rolloutCorrection: rolloutCorrection(config) }),
  };
  const normalizer = normalizerOf(loss, config);
  return {
    loss,
    options,
    ...(normalizer && { normalizer }),
    fields: [...(beta === 0 ? [] : ['refLogProbs' as const]), ...(corrects ? ['rolloutLogProbs' as const] : [])],
    without: withoutCounterpart(loss, config, corrects),
  };
}

function ratioLevel(loss: string, level: 'token' | 'sequence'): Options {
  if (loss === 'vespo') return {}; // has one ratio, of the whole sequence
  const usual = loss === 'gspo' || loss === 'luspo' ? 'sequence' : 'token';
  return unless({ ratioLevel: usual }, { ratioLevel: level });
}

function scoreOptions(loss: string, config: TrlConfig): Options {
  const { epsilon = 0.2 } = config;
  const epsilonHigh = config.epsilon_high ?? epsilon;
  if (loss === 'cispo') return unless({ ratioMax: 5 }, { ratioMax: epsilonHigh });
  if (loss === 'sapo') {
    const { sapo_temperature_pos: tauPos = 1, sapo_temperature_neg: tauNeg = 1.05 } = config;
    return unless({ tauPos: 1, tauNeg: 1.05 }, { tauPos, tauNeg });
  }
  if (loss === 'vespo') {
    const { vespo_k_pos: kPos = 2, vespo_lambda_pos: lambdaPos = 3, vespo_k_neg: kNeg = 3 } = config;
    const usual = { kPos: 2, lambdaPos: 3, kNeg: 3, lambdaNeg: 2 };
    return unless(usual, { kPos, lambdaPos, kNeg, lambdaNeg: config.vespo_lambda_neg ?? 2 });
  }
  const [low, high] = WIDTHS[loss] ?? [0.2, 0.2];
  return {
    ...unless({ epsilonLow: low, epsilonHigh: high }, { epsilonLow: epsilon, epsilonHigh }),
    ...(loss === 'drGrpo' && { maxLength: config.max_completion_length ?? 512 }),
    ...((config.delta ?? null) !== null && { delta: config.delta }),
  };
}

function advantage(loss: string, { scale_rewards: scale = 'group', multi_objective_aggregation }: TrlConfig): Options {
  if (multi_objective_aggregation === 'normalize_then_sum') return { advantage: { estimator: 'gdpo' } };
  if (scale === 'none') return loss === 'drGrpo' ? {} : { advantage: { estimator: 'drGrpo' } };
  const estimator = { ...(loss === 'drGrpo' && { estimator: 'grpo' }), ...(scale === 'batch' && { scale }) };
  return Object.keys(estimator).length === 0 ? {} : { advantage: estimator };
}

function masks({ top_entropy_quantile = 1, off_policy_mask_threshold: threshold = null }: TrlConfig): Options {
  return {
    ...(top_entropy_quantile < 1 && { entropyQuantile: 1 - top_entropy_quantile }),
    ...(threshold !== null && { offPolicyMask: { delta: threshold } }),
  };
}

/** TRL's is a mean over tokens; so is ours by itself where the policy term is one. */
function entropyBonus(loss: string, { entropy_coef: entropyCoef = 0 }: TrlConfig): Options {
  if (entropyCoef === 0) return {};
  return { entropyCoef, ...(loss !== 'bnpo' && { entropyAggregation: 'token-mean' }) };
}

function rolloutCorrection(config: TrlConfig): Options {
  const [level, mode] = (config.vllm_importance_sampling_mode ?? 'sequence_mask').split('_');
  const { vllm_importance_sampling_clip_min: min = null, vllm_importance_sampling_clip_max: max = 3 } = config;
  return { level, mode, ...(min !== null && { min }), max: max ?? Infinity, missing: 'one' };
}

/** TRL divides by the steps of accumulation, or by the tokens of all micro-batches of a step. */
function normalizerOf(loss: string, config: TrlConfig): LossTranslation['normalizer'] {
  const { gradient_accumulation_steps: steps = 1 } = config;
  if (loss === 'dapo' || loss === 'cispo' || loss === 'vespo') {
    const times = steps / (config.steps_per_generation ?? steps);
    return times === 1 ? undefined : { of: 'tokens', times };
  }
  if (steps === 1) return undefined;
  if (loss === 'drGrpo') return { of: 'sequences', times: steps * (config.max_completion_length ?? 512) };
  return { of: loss === 'bnpo' ? 'tokens' : 'sequences', times: steps };
}

/** Of whatever weighs the tokens of a sequence differently. */
const TOKEN_FORM =
  'weights per token make the gradient of a sequence ratio that of its token form; in TRL it stays through the ratio itself';

function withoutCounterpart(loss: string, config: TrlConfig, corrects: boolean): string[] {
  return withReasons({
    multi_objective_aggregation:
      config.multi_objective_aggregation === 'normalize_then_sum' &&
      "TRL normalizes the sum over the batch's sequences, our gdpo over its tokens",
    entropy_target:
      (config.entropy_target ?? null) !== null && 'the coefficient is constant here: adapt it between calls',
    entropy_coef:
      (config.entropy_coef ?? 0) !== 0 &&
      (config.top_entropy_quantile ?? 1) < 1 &&
      'the bonus is on all tokens here, in TRL on those that the quantile keeps',
    top_entropy_quantile:
      config.importance_sampling_level === 'sequence' &&
      loss !== 'vespo' &&
      (config.top_entropy_quantile ?? 1) < 1 &&
      TOKEN_FORM,
    vllm_importance_sampling_mode: corrects && rolloutReason(loss, config),
  });
}

function rolloutReason(
  loss: string,
  { vllm_importance_sampling_mode: mode = 'sequence_mask', importance_sampling_level: level }: TrlConfig,
): string | false {
  if (loss === 'vespo')
    return 'the log-probs of the sampler enter the ratio of vespo as they are, in TRL after the bounds of this mode';
  return level === 'sequence' && mode.startsWith('token') && TOKEN_FORM;
}
