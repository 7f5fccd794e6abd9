// Hidden states and a last layer for tests, and what is right for them by an independent float64 oracle.
import { Random } from '../../bench/problems/random.js';
import type { DType, HostTensor } from '../../lib/index.js';
import { hostTensor, numbers, unpadded } from './tensors.js';
import { oracleRow } from './token-rows.js';

export interface LinearShape {
  tokens: number;
  vocab: number;
  width: number;
}

interface LinearOptions {
  dtypes?: readonly [hidden: DType, weight: DType, bias: DType];
  padding?: number; // elements of NaN between rows
  bias?: boolean;
  masked?: boolean;
  scale?: number; // of the logits
}

/** Numbers as the kernels must read them, row after row. */
export const valuesOf = (tensor: HostTensor) => Float64Array.from(numbers(unpadded(tensor), tensor.dtype ?? 'f32'));

/** Normally distributed logits of normally distributed hidden states, and an upstream gradient for each row. */
export function linearBatch(seed: number, shape: LinearShape, options: LinearOptions = {}) {
  const { tokens, vocab, width } = shape;
  const { dtypes = ['f32', 'f32', 'f32'], padding = 0, bias = true, masked = false, scale = 3 } = options;
  const random = new Random(seed);
  const normal = (length: number, size: number) => Float64Array.from({ length }, () => size * random.normal());
  const each = () => Float64Array.from({ length: tokens }, () => random.normal());
  return {
    hidden: hostTensor(normal(tokens * width, 1), [tokens, width], dtypes[0], padding),
    weight: hostTensor(normal(vocab * width, scale / Math.sqrt(width)), [vocab, width], dtypes[1], padding),
    ...(bias && { bias: hostTensor(normal(vocab, 1), [1, vocab], dtypes[2]) }),
    targets: Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab)),
    gradLogProbs: each().map((g, t) => (t % 7 === 3 ? 0 : g)),
    gradEntropy: each().map((h, t) => (t % 3 === 1 ? 0 : h)),
    ...(masked && { mask: Uint8Array.from({ length: tokens }, () => (random.uniform() < 0.7 ? 1 : 0)) }),
  };
}

export type LinearBatch = ReturnType<typeof linearBatch>;

/** [T, V] logits in float64. */
export function logitsOf({ hidden, weight, bias }: Pick<LinearBatch, 'hidden' | 'weight' | 'bias'>): Float64Array {
  const [[tokens, width], [vocab]] = [hidden.shape, weight.shape];
  const [states, rows, added] = [valuesOf(hidden), valuesOf(weight), bias && valuesOf(bias)];
  const logits = new Float64Array(tokens * vocab);
  for (let t = 0; t < tokens; t++) {
    for (let v = 0; v < vocab; v++) {
      let sum = added?.[v] ?? 0;
      for (let k = 0; k < width; k++) sum += states[t * width + k] * rows[v * width + k];
      logits[t * vocab + v] = sum;
    }
  }
  return logits;
}

/** What both passes must give; masked rows hold 0. */
export function linearOracle(batch: LinearBatch, temperature: number, withEntropy = true) {
  const [[tokens, width], [vocab]] = [batch.hidden.shape, batch.weight.shape];
  const [states, weight, logits] = [valuesOf(batch.hidden), valuesOf(batch.weight), logitsOf(batch)];
  const each = () => new Float64Array(tokens);
  const forward = { logProbs: each(), logSumExp: each(), entropy: each() };
  const gradHidden = new Float64Array(tokens * width);
  const gradWeight = new Float64Array(vocab * width);
  const gradBias = new Float64Array(vocab);
  for (let t = 0; t < tokens; t++) {
    if (batch.mask?.[t] === 0) continue;
    const { gradLogProbs, gradEntropy, targets } = batch;
    const logitRow = logits.subarray(t * vocab, (t + 1) * vocab);
    const row = oracleRow(logitRow, targets[t], temperature, gradLogProbs[t], withEntropy ? gradEntropy[t] : 0);
    forward.logProbs[t] = row.logProb;
    forward.logSumExp[t] = row.logSumExp;
    forward.entropy[t] = row.entropy;
    for (let v = 0; v < vocab; v++) {
      const d = row.withEntropy[v];
      gradBias[v] += d;
      for (let k = 0; k < width; k++) {
        gradHidden[t * width + k] += d * weight[v * width + k];
        gradWeight[v * width + k] += d * states[t * width + k];
      }
    }
  }
  return { ...forward, gradHidden, gradWeight, gradBias };
}
