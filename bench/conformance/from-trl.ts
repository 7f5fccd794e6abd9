// TRL's settings of GRPOConfig (read in 1.13.0) as a loss of this package with its options, or what of them has no counterpart.
import { type Options, type Translation, unless, withReasons } from './translation.js';

/** The settings that change the loss, by TRL's names. What is left out has TRL's default. */
export interface TrlConfig {
  loss_type?: 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo' | 'luspo' | 'cispo' | 'sapo' | 'vespo';
  importance_sampling_level?: 'token' | 'sequence';
  epsilon?: number;
  epsilon_high?: number | null;
  delta?: number | null;
  beta?: number;
  use_bias_correction_kl?: boolean;
  temperature?: number;
  max_completion_length?: number;
  sapo_temperature_pos?: number;
  sapo_temperature_neg?: number;
  vespo_k_pos?: number;
  vespo_lambda_pos?: number;
  vespo_k_neg?: number;
  vespo_lambda_neg?: number;
  scale_rewards?: 'group' | 'batch' | 'none';
  multi_objective_aggregation?: 'sum_then_normalize' | 'normalize_then_sum';
  top_entropy_quantile?: number;
  off_policy_mask_threshold?: number | null;
  entropy_coef?: number;
  entropy_target?: number | null;
  use_vllm?: boolean;
  vllm_importance_sampling_correction?: boolean;
  vllm_importance_sampling_mode?: 'token_truncate' | 'token_mask' | 'sequence_truncate' | 'sequence_mask';
  vllm_importance_sampling_clip_min?: number | null;
  vllm_importance_sampling_clip_max?: number | null;
  gradient_accumulation_steps?: number;
  steps_per_generation?: number;
  /** Changes no loss; above 1, TRL computes old log-probs. */
  num_iterations?: number;
  /** Drops completions by the mask, which is the caller's here. */
  mask_truncated_completions?: boolean;
}

const LOSSES = {
  ...{ grpo: 'grpo', bnpo: 'bnpo', dr_grpo: 'drGrpo', dapo: 'dapo' },
  ...{ luspo: 'luspo', cispo: 'cispo', sapo: 'sapo', vespo: 'vespo' },
};

/** Widths of the clip, where a loss's own are not 0.2 and 0.2. */
const WIDTHS: Readonly<Record<string, readonly [low: number, high: number]>> = {
  ...{ dapo: [0.2, 0.28], gspo: [3e-4, 4e-4], luspo: [3e-4, 4e-4] },
};

/** Translates settings of TRL's `GRPOConfig`. */
export function fromTrl(config: TrlConfig): Translation {
  const { loss_type = 'dapo', importance_sampling_level: level = 'token', beta = 0 } = config;
  const loss = loss_type === 'grpo' && level === 'sequence' ? 'gspo' : LOSSES[loss_type];
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
function normalizerOf(loss: string, config: TrlConfig): Translation['normalizer'] {
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
