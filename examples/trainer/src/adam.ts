// Adam (arXiv 1412.6980) on plain arrays, with the norm of the gradient limited: the same for every framework, and all of its state in sight.
import { type Weights, zerosLike } from './weights.js';

const BETA1 = 0.9;
const BETA2 = 0.99;
const EPSILON = 1e-8;
const LARGEST_NORM = 1;

export interface Adam {
  updates: number;
  first: Weights;
  second: Weights;
}

export const newAdam = (weights: Weights): Adam => ({
  updates: 0,
  first: zerosLike(weights),
  second: zerosLike(weights),
});

export type Gradients = Record<string, Float32Array>;

export function normOf(gradients: Gradients): number {
  let sum = 0;
  for (const values of Object.values(gradients)) for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

/** One update of the weights, in place; the norm of the gradient before it was limited. */
export function update(adam: Adam, weights: Weights, gradients: Gradients, learningRate: number): number {
  const norm = normOf(gradients);
  if (!Number.isFinite(norm)) throw new Error(`the norm of the gradient is ${norm}`);
  const scale = Math.min(1, LARGEST_NORM / norm);
  adam.updates++;
  const rate = learningRate / (1 - BETA1 ** adam.updates);
  const bias2 = 1 - BETA2 ** adam.updates;
  for (const [name, gradient] of Object.entries(gradients)) {
    const [w, m, v] = [weights, adam.first, adam.second].map((all) => all[name]!.values) as Float32Array[];
    for (let i = 0; i < gradient.length; i++) {
      const g = scale * gradient[i]!;
      m![i] = BETA1 * m![i]! + (1 - BETA1) * g;
      v![i] = BETA2 * v![i]! + (1 - BETA2) * g * g;
      w![i]! -= (rate * m![i]!) / (Math.sqrt(v![i]! / bias2) + EPSILON);
    }
  }
  return norm;
}
