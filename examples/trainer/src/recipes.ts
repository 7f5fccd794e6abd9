// The losses that the trainer knows: those of the package by name, and the ablations of the ConSPO paper, which are recipes of two lines.
import {
  type AnyLossOptions,
  type AnyLossSync,
  cosineMargin,
  defineLoss,
  discriminative,
  infoNCE,
  type LossName,
  lossesSync,
} from 'rlvr-kernels';

export interface Recipe {
  run: AnyLossSync;
  /** The loss of the package whose denominators it has, for micro-batches. */
  like: LossName;
  /** Whether its objective is InfoNCE, whose credits the log then has. */
  contrastive?: boolean;
}

const ABLATIONS: Record<string, Recipe> = {
  /** GRPO's linear objective on ConSPO's scores. */
  conspoLinear: {
    run: defineLoss({ score: 'logLikelihood', objective: discriminative }).runSync as AnyLossSync,
    like: 'conspo',
  },
  /** ConSPO's objective on GRPO's scores. */
  conspoRatio: {
    run: defineLoss({ score: { kind: 'clippedRatio' }, objective: infoNCE }).runSync as AnyLossSync,
    like: 'conspo',
    contrastive: true,
  },
};

const named = Object.entries(lossesSync).map(([name, run]) => {
  return [name, { run, like: name as LossName, contrastive: name === 'conspo' }] as const;
});

export const RECIPES: Readonly<Record<string, Recipe>> = { ...Object.fromEntries(named), ...ABLATIONS };

/** A margin that grows over the run, as ConSPO's curriculum has it. */
export interface Margin {
  target: number;
  /** The share of the run over which it grows. */
  warmup: number;
}

/** The options of a step, at this share of the run. */
export function optionsAt(options: AnyLossOptions, margin: Margin | undefined, progress: number): AnyLossOptions {
  return margin ? { ...options, margin: cosineMargin(margin)(progress) } : options;
}
