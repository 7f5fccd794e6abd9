// What the trainer needs of a model, whatever framework runs it.
import type { AnyLossOptions, AnyLossSync, LossResult, RolloutBatch, Rollouts } from 'rlvr-kernels';
import type { Gradients } from './adam.js';
import type { ModelShape, Weights } from './weights.js';

/** Rollouts without logits, padded on the right. */
export type Batch = RolloutBatch<Rollouts, { padding: 'right' }>;

/** A batch, or one of its micro-batches, with the options of its loss. */
export interface Part {
  batch: Batch;
  options: AnyLossOptions;
}

/** What the loss returned for each part, and the sum of their gradients. */
export interface Pass {
  results: LossResult<Batch, 'none'>[];
  gradients: Gradients;
}

/** Answers under way, a row each. */
export interface Generation {
  /** Appends ids [rows, count] to the rows; logits [rows, V] of what follows. */
  feed(ids: Int32Array, count: number): Float32Array;
  end(): void;
}

export interface Model {
  readonly shape: ModelShape;
  setWeights(weights: Weights): void;
  generate(rows: number): Generation;
  /** Forward and backward through the model and the loss. */
  pass(loss: AnyLossSync, parts: readonly Part[]): Pass;
  dispose(): void;
}

export type MakeModel = (shape: ModelShape) => Promise<Model>;

/** The mask of causal attention, [length, length]: far below 0 where a token would see a later one. */
export function causalMask(length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: length * length }, (_, i) => (i % length > Math.floor(i / length) ? -1e9 : 0));
}
