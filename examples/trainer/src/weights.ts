// The numbers that a model learns, as plain arrays: what frameworks, optimizer and checkpoints exchange.
import { normal, type Random } from './random.js';

export interface ModelShape {
  vocab: number;
  maxLength: number;
  width: number;
  layers: number;
  heads: number;
}

export interface Weight {
  shape: number[];
  values: Float32Array<ArrayBuffer>;
}

export type Weights = Record<string, Weight>;

/** Name, shape and scale of each weight; scale 0 stands for ones. Residual branches start small. */
function shapesOf({ vocab, maxLength, width, layers }: ModelShape) {
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

export function firstWeights(shape: ModelShape, random: Random): Weights {
  const entries = shapesOf(shape).map(([name, dimensions, scale]): [string, Weight] => {
    const length = dimensions.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length }, () => (scale === 0 ? 1 : scale * normal(random)));
    return [name, { shape: dimensions, values }];
  });
  return Object.fromEntries(entries);
}

export const parametersOf = (weights: Weights): number =>
  Object.values(weights).reduce((sum, { values }) => sum + values.length, 0);

export const zerosLike = (weights: Weights): Weights =>
  Object.fromEntries(
    Object.entries(weights).map(([name, { shape, values }]) => [
      name,
      { shape, values: new Float32Array(values.length) },
    ]),
  );
