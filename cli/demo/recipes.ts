import {
  type BackendName,
  bnpo,
  cispo,
  conspo,
  cosineMargin,
  dapo,
  disco,
  drGrpo,
  gmpo,
  grpo,
  gspo,
  sapo,
} from '../../lib/index.js';
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

export interface Recipe {
  readonly description: string;
  /** Computes the loss and turns `batch.logits` into its gradient. `progress`: of the training, in [0, 1]. */
  readonly update: (batch: TrainingBatch, options: UpdateOptions, progress: number) => Promise<{ loss: number }>;
}

const margin = cosineMargin({ target: 0.2, warmup: 0.5 });

/**
 * Starting from nothing, the advantage-weighted losses need the KL term (k3, to the policy at the start): without it the
 * policy stops exploring before it has met the longer answers, and ends between 0.5 and 0.8. ConSPO, and DisCO at a low
 * temperature, saturate instead, and need none; at its tau of 10, DisCO ends between 0.83 and 0.94.
 */
const klCoef = 0.2;

/** What `demo --loss` can train with. Where an option is not the loss's default, the description says so. */
export const recipes = {
  conspo: {
    description: 'InfoNCE on mean log-probs, margin growing to 0.2',
    update: (batch, options, progress) => conspo(batch, { margin: margin(progress), ...options }),
  },
  grpo: {
    description: 'clipped ratios, KL 0.2',
    update: (batch, options) => grpo(batch, { klCoef, ...options }),
  },
  dapo: {
    description: 'GRPO with a wider upper clip and token-mean, KL 0.2',
    update: (batch, options) => dapo(batch, { klCoef, ...options }),
  },
  bnpo: {
    description: 'GRPO with token-mean, KL 0.2',
    update: (batch, options) => bnpo(batch, { klCoef, ...options }),
  },
  // Its advantages are not divided by their deviation, and so smaller: KL 0.2 would hold the policy where it starts.
  drGrpo: {
    description: 'clipped ratios, unscaled advantages, constant length, KL 0.08',
    update: (batch, options) => drGrpo(batch, { maxLength: maxTokens, klCoef: 0.08, ...options }),
  },
  // A step here moves log-probs by hundredths and more: epsilons of 3e-4 would clip nearly all of each second update.
  gspo: {
    description: "the sequence's ratio, clip 0.05 (not 3e-4 and 4e-4), KL 0.2",
    update: (batch, options) => gspo(batch, { epsilonLow: 0.05, epsilonHigh: 0.05, klCoef, ...options }),
  },
  gmpo: {
    description: 'geometric mean of clipped ratios, KL 0.2',
    update: (batch, options) => gmpo(batch, { klCoef, ...options }),
  },
  cispo: {
    description: 'log-probs weighted by stopped ratios, KL 0.2',
    update: (batch, options) => cispo(batch, { klCoef, ...options }),
  },
  sapo: {
    description: 'soft gate on ratios, KL 0.2',
    update: (batch, options) => sapo(batch, { klCoef, ...options }),
  },
  disco: {
    description: 'positives against the soft maximum of negatives, tau 0.2 (not 10)',
    update: (batch, options) => disco(batch, { tau: 0.2, ...options }),
  },
} satisfies Record<string, Recipe>;

export type RecipeName = keyof typeof recipes;
