// Rows of logits for the tests of the token level, and what is right for them by an independent float64 oracle.
import { Random } from '../../bench/problems/random.js';
import type { DType, HostTensor } from '../../lib/index.js';
import { hostTensor, numbers, unpadded } from './tensors.js';

interface Rows {
  logits: HostTensor;
  values: Float64Array; // the logits as the kernel must read them, row after row
  targets: Int32Array;
  gradLogProbs: Float64Array;
  gradEntropy: Float64Array;
}

interface RowsOptions {
  dtype?: DType;
  padding?: number; // elements of NaN between rows
  scale?: number;
  center?: number;
}

/** Normally distributed logits, and an upstream gradient for each row. */
export function randomRows(
  seed: number,
  tokens: number,
  vocab: number,
  { dtype = 'f32', padding = 0, scale = 3, center = 0 }: RowsOptions = {},
): Rows {
  const random = new Random(seed);
  const drawn = Float64Array.from({ length: tokens * vocab }, () => center + scale * random.normal());
  const logits = hostTensor(drawn, [tokens, vocab], dtype, padding);
  return {
    logits,
    values: Float64Array.from(numbers(unpadded(logits), dtype)),
    targets: Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab)),
    gradLogProbs: Float64Array.from({ length: tokens }, () => random.normal()),
    gradEntropy: Float64Array.from({ length: tokens }, () => random.normal()),
  };
}

/**
 * One row: the definitions of spec section 2, by the shortest route. The gradients are of g times the log-prob, without and
 * with h times the entropy.
 */
export function oracleRow(row: Float64Array, target: number, temperature: number, g: number, h: number) {
  const z = row.map((x) => x / temperature);
  const max = z.reduce((a, b) => Math.max(a, b), -Infinity);
  const logSumExp = max + Math.log(z.reduce((sum, x) => sum + Math.exp(x - max), 0));
  const p = z.map((x) => Math.exp(x - logSumExp));
  const entropy = p.reduce((sum, pv, v) => sum - (pv === 0 ? 0 : pv * (z[v] - logSumExp)), 0);
  const gradient = p.map((pv, v) => (g * ((v === target ? 1 : 0) - pv)) / temperature);
  const withEntropy = p.map((pv, v) => {
    const bonus = pv === 0 ? 0 : h * pv * (z[v] - logSumExp + entropy);
    return gradient[v] - bonus / temperature;
  });
  return { logProb: z[target] - logSumExp, logSumExp, entropy, gradient, withEntropy };
}

/** All rows. */
export function oracleRows({ values, targets, gradLogProbs, gradEntropy }: Rows, temperature: number) {
  const vocab = values.length / targets.length;
  const gradLogits = new Float64Array(values.length);
  const gradLogitsWithEntropy = new Float64Array(values.length);
  const rows = Array.from(targets, (target, t) => {
    const row = values.subarray(t * vocab, (t + 1) * vocab);
    const { gradient, withEntropy, ...rest } = oracleRow(row, target, temperature, gradLogProbs[t], gradEntropy[t]);
    gradLogits.set(gradient, t * vocab);
    gradLogitsWithEntropy.set(withEntropy, t * vocab);
    return rest;
  });
  return {
    logProbs: rows.map((row) => row.logProb),
    logSumExp: rows.map((row) => row.logSumExp),
    entropy: rows.map((row) => row.entropy),
    gradLogits,
    gradLogitsWithEntropy,
  };
}
