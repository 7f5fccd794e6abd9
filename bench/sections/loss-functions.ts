// Losses as the benchmark calls them.
import * as api from '../../lib/index.js';

export interface LossCallOptions {
  readonly gradient?: 'in-place';
  readonly backend: api.BackendName;
}

/** A loss as the benchmark calls it: a batch with log-probs of the old policy, and rewards in groups. */
export type LossFunction = (
  batch: api.Batch & { oldLogProbs: Float64Array },
  options: LossCallOptions,
) => { loss: number; gradLogProbs?: api.FloatArray };

/** With tau 1 no score is so far ahead that its gradient is 0: such rows are not read. */
export const LOSSES = {
  conspo: (batch, options) => api.conspoSync(batch, { tau: 1, ...options }),
  grpo: (batch, options) => api.grpoSync(batch, options),
  dapo: (batch, options) => api.dapoSync(batch, options),
  bnpo: (batch, options) => api.bnpoSync(batch, options),
  drGrpo: (batch, options) => api.drGrpoSync(batch, { maxLength: 1024, ...options }),
  gspo: (batch, options) => api.gspoSync(batch, options),
  gmpo: (batch, options) => api.gmpoSync(batch, options),
  cispo: (batch, options) => api.cispoSync(batch, options),
  sapo: (batch, options) => api.sapoSync(batch, options),
  disco: (batch, options) => api.discoSync(batch, options),
} satisfies Record<string, LossFunction>;

export const DEFAULT_LOSSES: readonly (keyof typeof LOSSES)[] = ['conspo', 'grpo'];
