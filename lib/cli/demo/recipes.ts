import { type BackendName, conspo, cosineMargin, grpo } from '../../index.js';

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

export interface UpdateOptions {
  /** Training progress in [0, 1]. */
  readonly progress: number;
  readonly backend: BackendName | undefined;
  readonly signal: AbortSignal;
}

export interface Recipe {
  readonly description: string;
  /** Computes the loss and turns `batch.logits` into its gradient. */
  readonly update: (batch: TrainingBatch, options: UpdateOptions) => Promise<{ loss: number }>;
}

const margin = cosineMargin({ target: 0.2, warmup: 0.5 });

/** What `demo --loss` can train with. */
export const recipes = {
  conspo: {
    description: 'ConSPO: group InfoNCE on length-normalised log-likelihoods, cosine margin curriculum up to 0.2',
    update: (batch, { progress, backend, signal }) =>
      conspo(batch, { tau: 0.1, margin: margin(progress), gradient: 'in-place', backend, signal }),
  },
  // Starting from nothing, GRPO needs the KL term: without it the policy stops exploring before it has met the longer
  // answers, and ends near an accuracy of 0.7. ConSPO saturates instead, and needs none.
  grpo: {
    description:
      'GRPO: group-normalised advantages on clipped importance ratios, clip 0.2, KL 0.2 (k3) to the starting policy',
    update: (batch, { backend, signal }) =>
      grpo(batch, {
        epsilonLow: 0.2,
        epsilonHigh: 0.2,
        klCoef: 0.2,
        klEstimator: 'k3',
        gradient: 'in-place',
        backend,
        signal,
      }),
  },
} satisfies Record<string, Recipe>;

export type RecipeName = keyof typeof recipes;
