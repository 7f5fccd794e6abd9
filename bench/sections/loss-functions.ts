// Losses as the benchmark calls them.
import type { BackendName, Batch, FloatArray, HostTensor } from '../../lib/index.js';
import { LOSSES as LISTED, LOSS_NAMES, type LossName } from '../../lib/losses/list.js';

export interface LossCallOptions {
  readonly gradient?: 'in-place' | { deferred: true };
  /** From hidden states. */
  readonly gradHidden?: 'new' | { out: HostTensor };
  readonly gradWeight?: 'new' | { out: HostTensor };
  readonly chunkBytes?: number;
  readonly backend: BackendName;
}

/** A loss as the benchmark calls it: a batch with log-probs of the old policy, and rewards in groups. */
export type LossFunction = (
  batch: Batch & { oldLogProbs: Float64Array },
  options: LossCallOptions,
) => { loss: number; gradLogProbs?: FloatArray; rowScale?: Float64Array };

const options: Partial<Record<LossName, object>> = {
  conspo: { tau: 1 }, // no score is then so far ahead that its gradient is 0: such rows are not read
  drGrpo: { maxLength: 1024 },
};

function lossFunction(name: LossName): LossFunction {
  const run = LISTED[name].runSync as LossFunction;
  return (batch, given) => run(batch, { ...options[name], ...given });
}

export const LOSSES = Object.fromEntries(LOSS_NAMES.map((name) => [name, lossFunction(name)])) as Record<
  LossName,
  LossFunction
>;

/** Those that know a row's scale before they have seen all rows: for the others it can be deferred. */
const OF_TOKENS: ReadonlySet<string> = new Set<LossName>(['grpo', 'dapo', 'bnpo', 'drGrpo', 'cispo', 'dppo', 'sapo']);

export const canDefer = (name: string): boolean => !OF_TOKENS.has(name);

export const DEFAULT_LOSSES: readonly LossName[] = ['conspo', 'grpo'];
