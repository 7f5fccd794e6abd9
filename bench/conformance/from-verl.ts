// verl's settings of the actor and of its rollout correction (read in 1dda039) as a loss of this package with its options, or what of
// them has no counterpart.
import { type Options, type Translation, unless, withReasons } from './translation.js';

type LossMode =
  | 'vanilla'
  | 'gspo'
  | 'sapo'
  | 'geo_mean'
  | 'cispo'
  | 'gpg'
  | 'dro'
  | 'dppo_tv'
  | 'dppo_kl'
  | 'clip_cov'
  | 'kl_cov';

/** By verl's names, of `actor`, `actor.policy_loss` and `algorithm.rollout_correction`. What is left out has verl's default. */
export interface VerlConfig {
  loss_mode?: LossMode;
  loss_agg_mode?: 'token-mean' | 'token-sum' | 'seq-mean-token-mean' | 'seq-mean-token-sum' | 'seq-mean-token-sum-norm';
  /** Of the global batch, with which verl divides where they are known. */
  loss_scale_factor?: number;
  batch_num_tokens?: number;
  global_batch_size?: number;
  dp_size?: number;
  clip_ratio_low?: number;
  clip_ratio_high?: number;
  clip_ratio_c?: number;
  tau_pos?: number;
  tau_neg?: number;
  dro_beta?: number;
  kl_loss_coef?: number;
  kl_loss_type?: 'kl' | 'k1' | 'abs' | 'mse' | 'k2' | 'low_var_kl' | 'k3' | 'k1+' | 'k3+';
  rollout_is?: 'token' | 'sequence';
  rollout_is_threshold?: number | `${number}_${number}`;
  rollout_is_batch_normalize?: boolean;
  rollout_rs?: 'token_k1' | 'token_k3' | 'seq_mean_k1' | 'seq_mean_k3' | 'seq_max_k3' | 'seq_sum_k1';
  rollout_rs_threshold?: number | `${number}_${number}`;
}

/** Of the padded length L, which verl divides by where `loss_scale_factor` is not given. */
export interface VerlBatch {
  length: number;
}

/** Those that verl aggregates by sequence, whatever `loss_agg_mode` says. */
const BY_SEQUENCE: readonly LossMode[] = ['gspo', 'sapo', 'geo_mean'];

const KL_ESTIMATORS = {
  ...{ kl: 'k1', k1: 'k1', abs: 'abs', mse: 'k2', k2: 'k2', low_var_kl: 'k3', k3: 'k3' },
  ...{ 'k1+': 'k1+', 'k3+': 'k3+' },
};

/** Translates settings of verl. */
export function fromVerl(config: VerlConfig, { length }: VerlBatch): Translation {
  const { loss_mode: mode = 'vanilla', kl_loss_coef: klCoef = 0 } = config;
  const onPolicy = mode === 'gpg' || mode === 'dro';
  const correction = rolloutCorrection(config);
  const aggregation = aggregationOf(mode, config);
  const loss = mode === 'vanilla' ? VANILLA[aggregation] : NAMES[mode];
  return {
    loss,
    options: {
      ...score(mode, loss, config),
      ...weights(loss, aggregation, config, length),
      ...kl(mode, config),
      ...correction,
    },
    ...(onPolicy && { old: false }),
    fields: [
      ...(mode === 'dro' ? ['refLogProbs: oldLogProbs' as const] : []),
      ...(klCoef !== 0 && mode !== 'dro' ? ['refLogProbs' as const] : []),
      ...(correction.rolloutCorrection ? ['rolloutLogProbs' as const] : []),
    ],
    ...(aggregation === 'seq-mean-token-mean' && { nearly: 'verl adds 1e-8 to the number of tokens it divides by' }),
    without: withReasons({
      loss_mode: (mode === 'kl_cov' || mode === 'clip_cov') && `${mode} chooses tokens by their covariance, at random`,
      kl_loss_coef: mode === 'dro' && klCoef !== 0 && 'the one KL penalty is the loss of dro itself',
      rollout_is:
        mode === 'geo_mean' &&
        config.rollout_is === 'token' &&
        'verl takes the geometric mean of the weights of a sequence; gmpo has no terms per token',
      rollout_is_batch_normalize:
        config.rollout_is_batch_normalize === true &&
        config.rollout_is === 'sequence' &&
        'verl divides weights of sequences by their mean over sequences, here it is over tokens',
      rollout_rs: config.rollout_rs === 'seq_sum_k1' && 'no rejection by the sum of a sequence',
    }),
  };
}

type Aggregation = NonNullable<VerlConfig['loss_agg_mode']>;

function aggregationOf(mode: LossMode, { loss_agg_mode = 'token-mean' }: VerlConfig): Aggregation {
  return BY_SEQUENCE.includes(mode) ? 'seq-mean-token-mean' : loss_agg_mode;
}

/** The loss of a vanilla clip whose aggregation is the nearest. */
const VANILLA: Record<Aggregation, string> = {
  ...{ 'token-mean': 'dapo', 'token-sum': 'dapo' },
  ...{ 'seq-mean-token-mean': 'grpo', 'seq-mean-token-sum': 'grpo', 'seq-mean-token-sum-norm': 'drGrpo' },
};

const NAMES: Record<Exclude<LossMode, 'vanilla'>, string> = {
  ...{ gspo: 'gspo', sapo: 'sapo', geo_mean: 'gmpo', cispo: 'cispo', gpg: 'cispo', dro: 'cispo' },
  ...{ dppo_tv: 'dppo', dppo_kl: 'dppo', clip_cov: 'dapo', kl_cov: 'dapo' },
};

/** What the aggregation of each loss is called; token-mean for the others. */
const OWN: Readonly<Record<string, string>> = {
  ...{ grpo: 'sequence-mean', gspo: 'sequence-mean', sapo: 'sequence-mean', gmpo: 'sequence-mean' },
  drGrpo: 'constant-length',
};

function weights(loss: string, aggregation: Aggregation, config: VerlConfig, length: number): Options {
  const { dp_size: ranks = 1, global_batch_size: sequences, batch_num_tokens: tokens } = config;
  const unlessOwn = (name: string) => (name === (OWN[loss] ?? 'token-mean') ? {} : { aggregation: name });
  const shared = (count: number | undefined) => (count === undefined ? {} : { normalizer: count / ranks });
  if (aggregation === 'token-mean') return shared(tokens);
  if (aggregation === 'token-sum') return { normalizer: 1 / ranks };
  if (aggregation === 'seq-mean-token-mean') return { ...unlessOwn('sequence-mean'), ...shared(sequences) };
  const maxLength = aggregation === 'seq-mean-token-sum' ? 1 : (config.loss_scale_factor ?? length);
  return { ...unlessOwn('constant-length'), maxLength, ...shared(sequences && sequences * maxLength) };
}

/** Widths of the clip of each loss. */
const WIDTHS: Readonly<Record<string, readonly [low: number, high: number]>> = {
  ...{ dapo: [0.2, 0.28], gspo: [3e-4, 4e-4], gmpo: [0.4, 0.4] },
};

function score(mode: LossMode, loss: string, config: VerlConfig): Options {
  const { clip_ratio_low: epsilonLow = 0.2, clip_ratio_high: epsilonHigh = 0.2 } = config;
  if (mode === 'gpg' || mode === 'dro') return {};
  if (mode === 'cispo') return { ratioMin: 1 - epsilonLow, ratioMax: 1 + epsilonHigh };
  if (mode === 'sapo')
    return unless({ tauPos: 1, tauNeg: 1.05 }, { tauPos: config.tau_pos ?? 1, tauNeg: config.tau_neg ?? 1.05 });
  const [low, high] = WIDTHS[loss] ?? [0.2, 0.2];
  const widths = unless({ epsilonLow: low, epsilonHigh: high }, { epsilonLow, epsilonHigh });
  const { clip_ratio_c: cap = 3 } = config;
  if (loss === 'dppo') {
    const divergence = mode === 'dppo_kl' ? { divergence: 'kl' } : {};
    return { ...divergence, ...widths, ...unless({ ratioMax: 20 }, { ratioMax: cap }) };
  }
  return { ...widths, ...(mode === 'vanilla' && { dualClip: cap }) };
}

function kl(
  mode: LossMode,
  { dro_beta = 0.1, kl_loss_coef: klCoef = 0, kl_loss_type = 'low_var_kl' }: VerlConfig,
): Options {
  if (mode === 'dro') return { klCoef: dro_beta, klEstimator: 'k2' };
  if (klCoef === 0) return {};
  const klEstimator = KL_ESTIMATORS[kl_loss_type];
  const capped = klEstimator === 'k3' || klEstimator === 'k3+';
  return { klCoef, ...unless({ klEstimator: 'k3' }, { klEstimator }), ...(capped && { klMax: 10 }) };
}

/** [lower, upper] of a threshold, of which verl takes a number as the upper one. */
function bounds(threshold: number | string): [number | undefined, number] {
  if (typeof threshold === 'number') return [undefined, threshold];
  const [min, max] = threshold.split('_').map(Number);
  return [min, max];
}

function rolloutCorrection(config: VerlConfig): Options {
  const { rollout_is: level, rollout_rs: rejects } = config;
  if (level === undefined && rejects === undefined) return {};
  const [min, max] = bounds(config.rollout_is_threshold ?? 2);
  return {
    rolloutCorrection: {
      ...(level === undefined && { level: 'none' }),
      ...(level === 'sequence' && { level }),
      ...(level !== undefined && min !== undefined && { mode: 'mask', min }),
      ...(level !== undefined && max !== 2 && { max }),
      ...(config.rollout_is_batch_normalize === true && { normalize: true }),
      ...(rejects !== undefined && { reject: rejection(rejects, config.rollout_rs_threshold ?? 2) }),
    },
  };
}

/** verl gives bounds of k1 as ratios. */
function rejection(option: NonNullable<VerlConfig['rollout_rs']>, threshold: number | string): Options {
  const by = option.endsWith('k1') ? 'k1' : 'k3';
  const level = { token: 'token', seq_mean: 'sequence-mean', seq_max: 'sequence-max', seq_sum: 'sequence-sum' }[
    option.slice(0, -3)
  ];
  const [min, max] = bounds(threshold);
  if (by === 'k3') return { by, level, max };
  return { by, level, min: Math.log(min ?? 1 / max), max: Math.log(max) };
}
