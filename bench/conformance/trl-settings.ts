// The settings of TRL's GRPOTrainer that are compared, as a table that is multiplied out.
import type { TrlConfig } from '../../lib/translations/from-trl.js';

/** One row of the comparison. */
export interface TrlSetting {
  part: string;
  config: TrlConfig;
  /** The policy that sampled is the current one: no old log-probs. */
  onPolicy?: boolean;
  /** Ours computes the advantages from the rewards; otherwise they are TRL's. */
  ownAdvantages?: boolean;
  /** The inference engine has no log-prob of some token. */
  unscored?: boolean;
}

type LossType = NonNullable<TrlConfig['loss_type']>;

const GRPO: TrlConfig = { loss_type: 'grpo' };
const BNPO: TrlConfig = { loss_type: 'bnpo' };
const DR_GRPO: TrlConfig = { loss_type: 'dr_grpo', max_completion_length: 64 };
const DAPO: TrlConfig = { loss_type: 'dapo' };
const LUSPO: TrlConfig = { loss_type: 'luspo', importance_sampling_level: 'sequence', epsilon: 0.1 };
const CISPO: TrlConfig = { loss_type: 'cispo', epsilon_high: 5 };
const SAPO: TrlConfig = { loss_type: 'sapo' };
const VESPO: TrlConfig = { loss_type: 'vespo' };
const GSPO: TrlConfig = { loss_type: 'grpo', importance_sampling_level: 'sequence', epsilon: 0.1 };
const EVERY = [GRPO, BNPO, DR_GRPO, DAPO, LUSPO, CISPO, SAPO, VESPO];

const ON_SEQUENCES: TrlConfig = { importance_sampling_level: 'sequence', epsilon: 0.1 };
const MODES = ['token_truncate', 'token_mask', 'sequence_truncate', 'sequence_mask'] as const;
const BOUNDS = [
  [null, 3],
  [0.5, 1.3],
  [0.9, null],
] as const;

/** Every base with every variation. */
const times = (bases: readonly TrlConfig[], variations: readonly TrlConfig[]) =>
  bases.flatMap((base) => variations.map((variation) => ({ ...base, ...variation })));

const accumulated = (loss_type: LossType): TrlConfig => ({
  ...(loss_type === 'dr_grpo' ? DR_GRPO : { loss_type }),
  gradient_accumulation_steps: 4,
});

const vllm = (
  vllm_importance_sampling_mode: (typeof MODES)[number],
  [vllm_importance_sampling_clip_min, vllm_importance_sampling_clip_max]: (typeof BOUNDS)[number],
): TrlConfig => ({
  ...{ use_vllm: true, vllm_importance_sampling_mode },
  ...{ vllm_importance_sampling_clip_min, vllm_importance_sampling_clip_max },
});

const PARTS: Readonly<Record<string, readonly TrlConfig[]>> = {
  'Loss types': [
    ...EVERY,
    { ...LUSPO, importance_sampling_level: 'token' },
    { ...SAPO, sapo_temperature_pos: 0.7, sapo_temperature_neg: 2 },
    { ...VESPO, vespo_k_pos: 1, vespo_lambda_pos: 2, vespo_k_neg: 2, vespo_lambda_neg: 1.5 },
    ...[0.2, 1.2].map((epsilon_high) => ({ ...CISPO, epsilon_high })),
  ],
  'Clip and two-sided clip': times(
    [GRPO, DAPO],
    [
      { epsilon: 0.1, epsilon_high: 0.4 },
      { epsilon: 1, epsilon_high: 100 },
      ...[1.5, 1.1, 0.9].map((delta) => ({ delta })),
    ],
  ),
  'Sequence-level ratios': [
    { ...GSPO, epsilon: 3e-4, epsilon_high: 4e-4 },
    ...times([GRPO, BNPO, DR_GRPO, DAPO, { ...CISPO, epsilon_high: 1.1 }, SAPO, VESPO], [ON_SEQUENCES]),
    ...[1.5, 1.05].map((delta) => ({ ...GSPO, delta })),
    { ...LUSPO, delta: 1.5 },
  ],
  'KL to a reference policy': [
    ...times(EVERY, [{ beta: 0.04 }, { beta: 0.04, use_bias_correction_kl: false }]),
    ...times([GSPO], [{ beta: 0.04 }, { beta: 0.04, use_bias_correction_kl: false }]),
    { ...GRPO, beta: 1, temperature: 0.7 },
  ],
  // Quantiles that lie between two tokens: on one, TRL's threshold in float32 would decide about it by rounding.
  Entropy: [
    ...times([GRPO, DAPO, GSPO, CISPO], [{ top_entropy_quantile: 0.23 }]),
    { ...DAPO, top_entropy_quantile: 0.47, beta: 0.04 },
    ...times([GRPO, BNPO, DAPO], [{ entropy_coef: 0.01 }]),
    { ...GRPO, entropy_coef: 0.01, top_entropy_quantile: 0.23 },
  ],
  'Off-policy sequence mask': [
    ...times([GRPO, GSPO], [{ off_policy_mask_threshold: 0.02 }]),
    { ...DAPO, off_policy_mask_threshold: 0.02, beta: 0.04 },
    { ...GRPO, off_policy_mask_threshold: 0.02, ...vllm('token_truncate', BOUNDS[0]) },
  ],
  'vLLM importance sampling': [
    ...times(
      [GRPO],
      MODES.flatMap((mode) => BOUNDS.map((bounds) => vllm(mode, bounds))),
    ),
    ...times([DAPO, CISPO, SAPO, LUSPO, VESPO], [{ ...vllm('sequence_mask', BOUNDS[0]), beta: 0.04 }]),
    ...times([GSPO], [vllm('token_truncate', BOUNDS[0]), vllm('sequence_mask', BOUNDS[0])]),
    { ...GRPO, use_vllm: true, vllm_importance_sampling_correction: false },
  ],
  'Gradient accumulation': [
    ...(['grpo', 'bnpo', 'dr_grpo', 'dapo', 'sapo'] as const).map(accumulated),
    { ...DAPO, gradient_accumulation_steps: 2, steps_per_generation: 4 },
  ],
  'Truncated completions masked': times([GRPO, GSPO, DAPO], [{ mask_truncated_completions: true }]),
};

const onPolicy = (config: TrlConfig): TrlSetting => ({
  part: 'On-policy, without old log-probs',
  config,
  onPolicy: true,
});
const own = (config: TrlConfig): TrlSetting => ({ part: 'Advantages from rewards', config, ownAdvantages: true });

/** All settings, in the order of the document. */
export const TRL_SETTINGS: readonly TrlSetting[] = [
  ...Object.entries(PARTS).flatMap(([part, configs]) => configs.map((config) => ({ part, config }))),
  { part: 'vLLM importance sampling', config: { ...GRPO, ...vllm('token_truncate', BOUNDS[0]) }, unscored: true },
  ...[...EVERY, { ...GRPO, beta: 0.04 }].map(onPolicy),
  ...times([GRPO], [{}, { scale_rewards: 'batch' }, { scale_rewards: 'none' }]).map(own),
  ...times([DR_GRPO], [{ scale_rewards: 'none' }, {}]).map(own),
  own({ ...GRPO, multi_objective_aggregation: 'normalize_then_sum' }),
];
