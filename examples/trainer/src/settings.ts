import type { AnyLossOptions } from 'rlvr-kernels';
import type { Margin } from './recipes.js';
import type { TaskName } from './tasks.js';

/** A run: the same settings, the same run. */
export interface Settings {
  framework: 'tfjs' | 'jax';
  task: TaskName;
  seed: number;
  width: number;
  layers: number;
  heads: number;
  /** Steps of imitation, and sequences of each. */
  warm: number;
  warmBatch: number;
  warmRate: number;
  /** Steps of RLVR: problems, answers to each, and into how many updates of the model they are divided. */
  steps: number;
  groups: number;
  samples: number;
  updates: number;
  /** Sequences that the model is given at a time. */
  rows: number;
  learningRate: number;
  temperature: number;
  /** Of `RECIPES`. */
  loss: string;
  options: AnyLossOptions;
  /** Of ConSPO: in place of `margin` in the options. */
  margin?: Margin;
  /** Steps from one evaluation to the next, its problems, and its sampled answers to each. */
  evaluateEvery: number;
  problems: number;
  answers: number;
}

export const DEFAULTS: Settings = {
  framework: 'tfjs',
  task: 'add2',
  seed: 1,
  width: 64,
  layers: 2,
  heads: 4,
  warm: 400,
  warmBatch: 64,
  warmRate: 3e-3,
  steps: 60,
  groups: 32,
  samples: 8,
  updates: 2,
  rows: 256,
  learningRate: 3e-4,
  temperature: 1,
  loss: 'grpo',
  options: {},
  evaluateEvery: 10,
  problems: 128,
  answers: 8,
};
