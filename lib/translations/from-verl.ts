// verl's settings of the actor and of its rollout correction (read in 1dda039) as a loss of this package with its options, or what of
// them has no counterpart.
import { badArgument, describe } from '../errors.js';
import type { LossName } from '../losses/list.js';
import { finiteNumber, objectArgument } from '../validate.js';
import {
  flag,
  type LossTranslation,
  number,
  type Options,
  type Rule,
  settings,
  unless,
  withReasons,
  word,
} from './translation.js';

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
  /** Default `'vanilla'`. */
  loss_mode?: LossMode | undefined;
  /** Default `'token-mean'`. */
  loss_agg_mode?:
    | 'token-mean'
    | 'token-sum'
    | 'seq-mean-token-mean'
    | 'seq-mean-token-sum'
    | 'seq-mean-token-sum-norm'
    | undefined;
  /** What `seq-mean-token-sum-norm` divides by. Default: the padded length. */
  loss_scale_factor?: number | undefined;
  /** Tokens of the global batch. Default: those of the micro-batch. */
  batch_num_tokens?: number | undefined;
  /** Sequences of the global batch. Default: those of the micro-batch. */
  global_batch_size?: number | undefined;
  /** Ranks that the global batch is spread over. Default 1. */
  dp_size?: number | undefined;
  /** At least 0. Default 0.2. */
  clip_ratio_low?: number | undefined;
  /** At least 0. Default 0.2. */
  clip_ratio_high?: number | undefined;
  /** Above 1. Default 3. */
  clip_ratio_c?: number | undefined;
  /** Above 0, of `sapo`. Default 1. */
  tau_pos?: number | undefined;
  /** Above 0, of `sapo`. Default 1.05. */
  tau_neg?: number | undefined;
  /** At least 0, of `dro`. Default 0.1. */
  dro_beta?: number | undefined;
  /** Above 0, of `clip_cov`. Default 2e-4. */
  clip_cov_ratio?: number | undefined;
  /** Of `clip_cov`. Default 1. */
  clip_cov_lb?: number | undefined;
  /** At least `clip_cov_lb`, of `clip_cov`. Default 5. */
  clip_cov_ub?: number | undefined;
  /** In (0, 1], of `kl_cov`. Default 2e-4. */
  kl_cov_ratio?: number | undefined;
  /** At least 0, of `kl_cov`. Default 0.1. */
  ppo_kl_coef?: number | undefined;
  /** At least 0. Default 0: verl's `use_kl_loss` is off. */
  kl_loss_coef?: number | undefined;
  /** Default `'low_var_kl'`. */
  kl_loss_type?: 'kl' | 'k1' | 'abs' | 'mse' | 'k2' | 'low_var_kl' | 'k3' | 'k1+' | 'k3+' | undefined;
  /** Default: none. */
  rollout_is?: 'token' | 'sequence' | undefined;
  /** An upper bound, or both as `'0.5_5.0'`. Default 2. */
  rollout_is_threshold?: number | `${number}_${number}` | undefined;
  /** Default false. */
  rollout_is_batch_normalize?: boolean | undefined;
  /** Default: none. */
  rollout_rs?: 'token_k1' | 'token_k3' | 'seq_mean_k1' | 'seq_mean_k3' | 'seq_max_k3' | 'seq_sum_k1' | undefined;
  /** As `rollout_is_threshold`. Default 2. */
  rollout_rs_threshold?: number | `${number}_${number}` | undefined;
}

/** A padded batch of verl's. */
export interface VerlBatch {
  /** Its length L in tokens, which verl divides by where `loss_scale_factor` is not given. */
  length: number;
}

const NAMES: Readonly<Record<Exclude<LossMode, 'vanilla'>, LossName>> = {
  ...{ gspo: 'gspo', sapo: 'sapo', geo_mean: 'gmpo', cispo: 'cispo', gpg: 'cispo', dro: 'cispo' },
  ...{ dppo_tv: 'dppo', dppo_kl: 'dppo', clip_cov: 'dapo', kl_cov: 'dapo' },
};

const KL_ESTIMATORS = {
  ...{ kl: 'k1', k1: 'k1', abs: 'abs', mse: 'k2', k2: 'k2', low_var_kl: 'k3', k3: 'k3' },
  ...{ 'k1+': 'k1+', 'k3+': 'k3+' },
};

/** What `loss_agg_mode` may be. */
export const AGGREGATIONS = [
  'token-mean',
  'token-sum',
  'seq-mean-token-mean',
  'seq-mean-token-sum',
  'seq-mean-token-sum-norm',
] as const;

/** A number, or two of them, `"0.5_5.0"`. */
const threshold: Rule = (name, value) => {
  const parts = typeof value === 'string' ? value.split('_').map(Number) : [value];
  if (typeof value === 'string' && parts.length !== 2)
    throw badArgument('ERR_RANGE', name, 'a number, or two as "lower_upper"', describe(value));
  for (const part of parts) finiteNumber(name, part, { above: 0 });
};

const POSITIVE = number({ above: 0 });
const NOT_NEGATIVE = number({ min: 0 });
const COUNT = number({ min: 1, integer: true });

const RULES: Readonly<Record<keyof VerlConfig, Rule>> = {
  loss_mode: word('vanilla', ...Object.keys(NAMES)),
  loss_agg_mode: word(...AGGREGATIONS),
  loss_scale_factor: POSITIVE,
  batch_num_tokens: COUNT,
  global_batch_size: COUNT,
  dp_size: COUNT,
  clip_ratio_low: NOT_NEGATIVE,
  clip_ratio_high: NOT_NEGATIVE,
  clip_ratio_c: number({ above: 1 }),
  tau_pos: POSITIVE,
  tau_neg: POSITIVE,
  dro_beta: NOT_NEGATIVE,
  clip_cov_ratio: POSITIVE,
  clip_cov_lb: number(),
  clip_cov_ub: number(),
  kl_cov_ratio: number({ above: 0, max: 1 }),
  ppo_kl_coef: NOT_NEGATIVE,
  kl_loss_coef: NOT_NEGATIVE,
  kl_loss_type: word(...Object.keys(KL_ESTIMATORS)),
  rollout_is: word('token', 'sequence'),
  rollout_is_threshold: threshold,
  rollout_is_batch_normalize: flag,
  rollout_rs: word('token_k1', 'token_k3', 'seq_mean_k1', 'seq_mean_k3', 'seq_max_k3', 'seq_sum_k1'),
  rollout_rs_threshold: threshold,
};

/** Those that verl aggregates by sequence, whatever `loss_agg_mode` says. */
const BY_SEQUENCE: readonly LossMode[] = ['gspo', 'sapo', 'geo_mean'];

/**
 * The loss and options that compute what verl (1dda039) does with these settings of its actor and rollout correction, and the names of
 * those that have no counterpart. `docs/conformance.md` says how nearly they agree. Settings that change no loss are not taken.
 *
 * @example
 * ```ts
 * import { fromVerl } from 'rlvr-kernels';
 *
 * const { loss, options } = fromVerl({ loss_mode: 'vanilla', clip_ratio_high: 0.28 }, { length: 1024 });
 * console.log(loss, options); // => dapo { dualClip: 3 }
 * ```
 *
 * @throws RlvrError `ERR_OPTION` for a setting that is not among them, `ERR_RANGE` for a value that it does not have in verl.
 */
export function fromVerl(given: VerlConfig, batch: VerlBatch): LossTranslation {
  const config = settings('fromVerl', given, RULES);
  const length = finiteNumber('length', objectArgument('batch', batch).length, { min: 1, integer: true });
  const { loss_mode: mode = 'vanilla', kl_loss_coef: klCoef = 0 } = config;
  const onPolicy = mode === 'gpg' || mode === 'dro';
  const correction = rolloutCorrection(config);
  const aggregation = aggregationOf(mode, config);
  const normalized = config.rollout_is_batch_normalize === true ? config.rollout_is : undefined;
  const loss = mode === 'vanilla' ? VANILLA[aggregation] : NAMES[mode];
  return {
    loss,
    options: {
      ...score(mode, loss, config),
      ...weights(loss, aggregation, config, length),
      ...kl(mode, config),
      ...byCovariance(mode, config),
      ...correction,
    },
    ...(onPolicy && { old: false }),
    fields: [
      ...(mode === 'dro' ? ['refLogProbs: oldLogProbs' as const] : []),
      ...(klCoef !== 0 && mode !== 'dro' ? ['refLogProbs' as const] : []),
      ...(correction.rolloutCorrection ? ['rolloutLogProbs' as const] : []),
    ],
    ...((aggregation === 'seq-mean-token-mean' || normalized === 'token') && {
      nearly: 'verl adds 1e-8 to the number of tokens it divides by',
    }),
    without: withReasons({
      loss_mode:
        mode === 'clip_cov' &&
        (config.clip_cov_ratio ?? COV_RATIO) < 1 &&
        'where there are more candidates than clip_cov takes, torch draws them, and here a generator of ours: by chance others',
      kl_loss_coef: mode === 'dro' && klCoef !== 0 && 'the one KL penalty is the loss of dro itself',
      rollout_is:
        mode === 'geo_mean' &&
        config.rollout_is === 'token' &&
        'verl takes the geometric mean of the weights of a sequence; gmpo has no terms per token',
      rollout_is_batch_normalize:
        normalized === 'sequence' &&
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
const VANILLA: Readonly<Record<Aggregation, LossName>> = {
  ...{ 'token-mean': 'dapo', 'token-sum': 'dapo' },
  ...{ 'seq-mean-token-mean': 'grpo', 'seq-mean-token-sum': 'grpo', 'seq-mean-token-sum-norm': 'drGrpo' },
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
  if (mode === 'kl_cov') return { epsilonLow: Infinity, epsilonHigh: Infinity };
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

const COV_RATIO = 2e-4;

/** What is done with tokens of large covariances. */
function byCovariance(mode: LossMode, config: VerlConfig): Options {
  if (mode === 'clip_cov') {
    const { clip_cov_ratio = COV_RATIO, clip_cov_lb: low = 1, clip_cov_ub: high = 5 } = config;
    const ratio = Math.min(clip_cov_ratio, 1);
    return { clipCov: unless({ ratio: COV_RATIO, low: 1, high: 5 }, { ratio, low, high }) };
  }
  if (mode !== 'kl_cov') return {};
  const { kl_cov_ratio: ratio = COV_RATIO, ppo_kl_coef: coef = 0.1 } = config;
  return { klCov: unless({ ratio: COV_RATIO, coef: 1 }, { ratio, coef }) };
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
