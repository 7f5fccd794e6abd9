import { type BackendName, cosineMargin } from '../../lib/index.js';
import { LOSS_NAMES, LOSSES, type LossName } from '../../lib/losses/list.js';
import { maxTokens } from './additions.js';

/** The packed rollouts with the logits of the policy being trained, as the losses take them. */
export interface TrainingBatch {
  readonly logits: Float32Array; // [T, V], overwritten by their gradient
  readonly targets: Int32Array; // [T]
  readonly oldLogProbs: Float64Array; // [T]
  readonly refLogProbs: Float64Array; // [T]
  readonly cuSeqlens: Int32Array; // [N + 1]
  readonly cuGroups: Int32Array; // [G + 1]
  readonly rewards: Float32Array; // [N]
}

/** What every loss is given besides its own options: its gradient is to replace the logits. */
export interface UpdateOptions {
  readonly gradient: 'in-place';
  readonly backend: BackendName | undefined;
  readonly signal: AbortSignal;
}

type Update = (batch: TrainingBatch, options: UpdateOptions & Record<string, unknown>) => Promise<{ loss: number }>;

export interface Recipe {
  readonly description: string;
  /** Computes the loss and turns `batch.logits` into its gradient. `progress`: of the training, in [0, 1]. */
  readonly update: (batch: TrainingBatch, options: UpdateOptions, progress: number) => Promise<{ loss: number }>;
}

/** Options that suit the demo, where they are not the loss's defaults. */
interface Setting {
  readonly says: string;
  readonly options: (progress: number) => Record<string, unknown>;
}

const margin = cosineMargin({ target: 0.2, warmup: 0.5 });

/**
 * Starting from nothing, the advantage-weighted losses need the KL term (k3, to the policy at the start): without it the
 * policy stops exploring before it has met the longer answers, and ends between 0.5 and 0.8. ConSPO, and DisCO at a low
 * temperature, saturate instead, and need none; at its tau of 10, DisCO ends between 0.83 and 0.94.
 * REAL saturates early, at any tau tried: below 0.8 with two seeds.
 */
const klCoef = 0.2;
const advantageWeighted: Setting = { says: 'KL 0.2', options: () => ({ klCoef }) };

const settings: Partial<Record<LossName, Setting>> = {
  conspo: { says: 'margin growing to 0.2', options: (progress) => ({ margin: margin(progress) }) },
  // Its advantages are not divided by their deviation, and so smaller: KL 0.2 would hold the policy where it starts.
  drGrpo: { says: 'KL 0.08', options: () => ({ maxLength: maxTokens, klCoef: 0.08 }) },
  // A step here moves log-probs by hundredths and more: epsilons of 3e-4 would clip nearly all of each second update.
  gspo: { says: 'here 0.05, KL 0.2', options: () => ({ epsilonLow: 0.05, epsilonHigh: 0.05, klCoef }) },
  luspo: { says: 'here 0.05, KL 0.2', options: () => ({ epsilonLow: 0.05, epsilonHigh: 0.05, klCoef }) },
  disco: { says: 'here 0.2', options: () => ({ tau: 0.2 }) },
};

function recipeOf(name: LossName): Recipe {
  const { summary, parameters, run } = LOSSES[name];
  const setting = settings[name] ?? ('klCoef' in parameters ? advantageWeighted : undefined);
  return {
    description: setting ? `${summary}; ${setting.says}` : summary,
    update: (batch, options, progress) =>
      (run as unknown as Update)(batch, { ...setting?.options(progress), ...options }),
  };
}

/** What `demo --loss` can train with. */
export const recipes = Object.fromEntries(LOSS_NAMES.map((name) => [name, recipeOf(name)])) as Record<LossName, Recipe>;

export type RecipeName = LossName;
