// The settings of verl that are compared, as a table that is multiplied out.
import { AGGREGATIONS, fromVerl, type VerlConfig } from '../../lib/translations/from-verl.js';
import type { Call } from './text.js';

/** Estimators, by verl's names of `algorithm`. */
interface VerlEstimator {
  adv_estimator: string;
  norm_adv_by_std_in_grpo?: boolean;
}

/** One row of the comparison. */
export interface VerlSetting {
  part: string;
  config: VerlConfig | VerlEstimator;
  call: Call;
  perTokenAdvantages?: boolean;
  /** One sequence without tokens. */
  emptySequence?: boolean;
  /** Log-ratios to the reference policy of about 4. */
  farReference?: boolean;
}

type Flags = Pick<VerlSetting, 'perTokenAdvantages' | 'emptySequence' | 'farReference'>;

const KL_TYPES = ['kl', 'k1', 'abs', 'mse', 'k2', 'low_var_kl', 'k3', 'k1+', 'k3+'] as const;
const LEVELS = ['token', 'sequence'] as const;
const THRESHOLDS = [2, 1.1, '0.8_1.3', '0.5_5.0'] as const;
const NARROW = { clip_ratio_low: 0.1, clip_ratio_high: 0.1 };
const SCALE = { loss_scale_factor: 512 };

const PARTS: Readonly<Record<string, readonly VerlConfig[]>> = {
  'Vanilla, by aggregation': [
    ...AGGREGATIONS.map((loss_agg_mode) => ({
      loss_agg_mode,
      ...(loss_agg_mode === 'seq-mean-token-sum-norm' && SCALE),
    })),
    { batch_num_tokens: 1000, dp_size: 4 },
    { loss_agg_mode: 'seq-mean-token-mean', global_batch_size: 64, dp_size: 4 },
    { loss_agg_mode: 'seq-mean-token-sum-norm', ...SCALE, global_batch_size: 64, dp_size: 4 },
  ],
  'Vanilla, by clip': [
    { clip_ratio_low: 0.1, clip_ratio_high: 0.28, clip_ratio_c: 1.5 },
    { clip_ratio_c: 1.1 },
    { clip_ratio_low: 1, clip_ratio_high: 100 },
  ],
  'Other policy losses': [
    { loss_mode: 'gspo', clip_ratio_low: 3e-4, clip_ratio_high: 4e-4 },
    { loss_mode: 'gspo', ...NARROW },
    { loss_mode: 'sapo' },
    { loss_mode: 'sapo', tau_pos: 0.5, tau_neg: 3 },
    { loss_mode: 'cispo', clip_ratio_low: 0.2, clip_ratio_high: 0.28 },
    { loss_mode: 'cispo', loss_agg_mode: 'seq-mean-token-mean' },
    { loss_mode: 'geo_mean', clip_ratio_low: 0.4, clip_ratio_high: 0.4 },
    { loss_mode: 'geo_mean', ...NARROW },
    { loss_mode: 'gpg' },
    { loss_mode: 'dro', dro_beta: 0.5 },
    { loss_mode: 'dppo_tv', clip_ratio_low: 0.05, clip_ratio_high: 0.05, clip_ratio_c: 20 },
    { loss_mode: 'dppo_kl', clip_ratio_low: 0.05, clip_ratio_high: 0.05, clip_ratio_c: 20 },
    { loss_mode: 'dppo_tv', clip_ratio_c: 1.5 },
    { loss_mode: 'kl_cov' },
    { loss_mode: 'kl_cov', kl_cov_ratio: 0.2, ppo_kl_coef: 1, loss_agg_mode: 'seq-mean-token-mean' },
    { loss_mode: 'clip_cov', clip_cov_ratio: 1 },
    { loss_mode: 'clip_cov', clip_cov_ratio: 1, clip_cov_lb: -0.5, clip_cov_ub: 0.5, ...NARROW },
    { loss_mode: 'clip_cov' },
  ],
  'KL loss': [
    ...KL_TYPES.map((kl_loss_type) => ({ kl_loss_coef: 0.1, kl_loss_type })),
    { loss_agg_mode: 'seq-mean-token-mean', kl_loss_coef: 0.1, kl_loss_type: 'low_var_kl' },
  ],
  'Rollout correction': [
    ...LEVELS.flatMap((rollout_is) => THRESHOLDS.map((rollout_is_threshold) => ({ rollout_is, rollout_is_threshold }))),
    ...LEVELS.map((rollout_is) => ({ rollout_is, rollout_is_threshold: 2, rollout_is_batch_normalize: true })),
    ...LEVELS.map((rollout_is) => ({ loss_mode: 'gspo' as const, ...NARROW, rollout_is, rollout_is_threshold: 2 })),
    ...LEVELS.map((rollout_is) => ({
      ...{ loss_mode: 'kl_cov' as const, kl_cov_ratio: 0.2, rollout_is, rollout_is_threshold: 2 },
    })),
    ...(['sapo', 'cispo'] as const).map((loss_mode) => ({
      ...{ loss_mode, rollout_is: 'token' as const, rollout_is_threshold: 2 },
    })),
    ...LEVELS.map((rollout_is) => ({
      ...{
        loss_mode: 'geo_mean' as const,
        clip_ratio_low: 0.4,
        clip_ratio_high: 0.4,
        rollout_is,
        rollout_is_threshold: 2,
      },
    })),
  ],
  'Rejection by the distance to the rollout policy': [
    { rollout_rs: 'token_k1', rollout_rs_threshold: '0.8_1.3' },
    { rollout_rs: 'token_k3', rollout_rs_threshold: 0.05 },
    { rollout_rs: 'seq_mean_k1', rollout_rs_threshold: '0.95_1.05' },
    { rollout_rs: 'seq_mean_k3', rollout_rs_threshold: 0.04 },
    { rollout_rs: 'seq_max_k3', rollout_rs_threshold: 0.3 },
    { rollout_rs: 'seq_sum_k1', rollout_rs_threshold: '0.8_1.3' },
    { rollout_is: 'token', rollout_is_threshold: 2, rollout_rs: 'seq_mean_k1', rollout_rs_threshold: '0.9_1.1' },
  ],
};

/** What every padded batch of a comparison has instead of `loss_scale_factor`. */
const LENGTH = { length: 512 };

const row = (part: string, config: VerlConfig, flags: Flags = {}): VerlSetting => ({
  ...{ part, config, call: fromVerl(config, LENGTH) },
  ...flags,
});

const perToken = (config: VerlConfig) => row('Advantages per token', config, { perTokenAdvantages: true });

/** verl leaves sequences without tokens out of the count; here they are in, unless the count is given. */
function withEmptySequence(config: VerlConfig): VerlSetting {
  const setting = row('A sequence without tokens', config, { emptySequence: true });
  if (config.loss_agg_mode === undefined) return setting;
  return { ...setting, call: { ...setting.call, normalizer: { of: 'sequencesWithTokens', times: 1 } } };
}

/** verl's estimators: the function `advantages` here. */
const ESTIMATORS: readonly [config: VerlEstimator, options: Call['options']][] = [
  [{ adv_estimator: 'grpo' }, { eps: 1e-6 }],
  [{ adv_estimator: 'grpo', norm_adv_by_std_in_grpo: false }, { estimator: 'drGrpo' }],
  [{ adv_estimator: 'grpo_vectorized' }, { eps: 1e-6 }],
  [{ adv_estimator: 'rloo' }, { estimator: 'rloo' }],
  [{ adv_estimator: 'rloo_vectorized' }, { estimator: 'rloo' }],
  [{ adv_estimator: 'opo' }, { estimator: 'opo' }],
  [{ adv_estimator: 'grpo_passk' }, { estimator: 'passK', eps: 1e-6 }],
  [{ adv_estimator: 'gpg' }, { estimator: 'gpg' }],
  [{ adv_estimator: 'reinforce_plus_plus' }, { estimator: 'reinforcePlusPlus' }],
  [{ adv_estimator: 'reinforce_plus_plus_baseline' }, { estimator: 'reinforcePlusPlusBaseline' }],
];

const WHITENED = 'verl adds 1e-8 to the number of tokens it divides by';

/** Why an estimator agrees to 1e-7 only. */
const NEARLY: Partial<Record<VerlEstimator['adv_estimator'], string>> = {
  grpo_vectorized: 'verl takes mean and deviation in float32',
  gpg: 'verl divides the two numbers of sequences in float32',
  reinforce_plus_plus: WHITENED,
  reinforce_plus_plus_baseline: WHITENED,
};

function nearly({ adv_estimator }: VerlEstimator) {
  const reason = NEARLY[adv_estimator];
  return reason === undefined ? {} : { nearly: reason };
}

/** All settings, in the order of the document. */
export const VERL_SETTINGS: readonly VerlSetting[] = [
  ...Object.entries(PARTS).flatMap(([part, configs]) => configs.map((config) => row(part, config))),
  ...(['low_var_kl', 'k3+'] as const).map((kl_loss_type) =>
    row('A far reference policy', { kl_loss_coef: 0.1, kl_loss_type }, { farReference: true }),
  ),
  perToken({}),
  perToken({ loss_mode: 'gspo', ...NARROW }),
  ...(['sapo', 'cispo'] as const).map((loss_mode) => perToken({ loss_mode })),
  perToken({ loss_mode: 'clip_cov', clip_cov_ratio: 1 }),
  perToken({ loss_mode: 'kl_cov', kl_cov_ratio: 0.2 }),
  perToken({ loss_mode: 'gpg', loss_agg_mode: 'seq-mean-token-mean' }),
  withEmptySequence({ loss_agg_mode: 'seq-mean-token-mean' }),
  withEmptySequence({ loss_mode: 'geo_mean', ...NARROW }),
  ...ESTIMATORS.map(([config, options]) => ({
    ...{ part: 'Advantage estimators', config },
    call: { loss: 'advantages', options, fields: [], without: [], ...nearly(config) },
  })),
];
