// What the trainer needs of a model, whatever framework owns it, and what its weights are.
import type { AnyLossOptions, AnyLossSync, LossResult, RolloutBatch, Rollouts } from 'rlvr-kernels';
import type { Random } from './random.js';

export interface ModelShape {
  vocab: number;
  maxLength: number;
  width: number;
  layers: number;
  heads: number;
}

/** Rollouts without logits, padded on the right. */
export type Batch = RolloutBatch<Rollouts, { padding: 'right' }>;

/** A batch, or one of its micro-batches, with the options of its loss. */
export interface Part {
  batch: Batch;
  options: AnyLossOptions;
}

export interface Model {
  readonly shape: ModelShape;
  /** How many numbers it learns. */
  readonly parameters: number;
  /** Logits [rows, V] of what follows each row of ids [rows, length]. */
  next(ids: Int32Array, rows: number, length: number): Float32Array;
  /** One step of Adam on the sum of the losses of the parts; what the loss returned for each. */
  step(loss: AnyLossSync, parts: readonly Part[], learningRate: number): LossResult<Batch, 'none'>[];
}

export type MakeModel = (shape: ModelShape, random: Random) => Promise<Model>;

export const ADAM = { beta1: 0.9, beta2: 0.99, epsilon: 1e-7 };

/** Name, shape and scale of each weight; scale 0 stands for ones. Residual branches start small. */
function weightShapes({ vocab, maxLength, width, layers }: ModelShape) {
  const scale = 1 / Math.sqrt(width);
  const branch = 1 / Math.sqrt(2 * layers);
  const shapes: [name: string, shape: number[], scale: number][] = [
    ['embed', [vocab, width], 0.3],
    ['position', [maxLength, width], 0.3],
    ['gain', [width], 0],
    ['head', [width, vocab], scale],
  ];
  for (let layer = 0; layer < layers; layer++) {
    shapes.push(
      [`attentionGain${layer}`, [width], 0],
      [`queryKeyValue${layer}`, [width, 3 * width], scale],
      [`out${layer}`, [width, width], scale * branch],
      [`mlpGain${layer}`, [width], 0],
      [`up${layer}`, [width, 4 * width], scale],
      [`down${layer}`, [4 * width, width], (scale / 2) * branch],
    );
  }
  return shapes;
}

/** A number of the standard normal distribution. */
const normal = (random: Random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** The first weights of a model, by name. */
export function firstWeights(shape: ModelShape, random: Random) {
  return weightShapes(shape).map(([name, dimensions, scale]) => {
    const size = dimensions.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length: size }, () => (scale === 0 ? 1 : scale * normal(random)));
    return { name, shape: dimensions, values };
  });
}

/** The mask of causal attention, [length, length]: far below 0 where a token would see a later one. */
export function causalMask(length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: length * length }, (_, i) => (i % length > Math.floor(i / length) ? -1e9 : 0));
}
