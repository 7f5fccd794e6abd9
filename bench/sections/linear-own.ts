// The contenders of the section `linear` that are this package's own, and the yardstick of their arithmetic.
import type { BackendName } from '../../lib/index.js';
import { benchAddon } from '../problems/addon.js';
import { lossError, normError, requireWithin, valueError } from '../problems/float64.js';
import {
  checkLinearGradients,
  type LinearArena,
  type LinearLayer,
  type LinearProblem,
  linearCosts,
  productFlops,
  tensorRows,
} from '../problems/linear.js';
import { LINEAR_TOLERANCE } from '../problems/tolerances.js';
import { ARITHMETIC } from '../rows.js';
import type { Contender } from '../timing.js';
import { LINEAR_OPS, type LinearGradients, type LinearOp, type LinearOpName } from './linear-ops.js';
import { peakOfOp } from './linear-peak.js';
import { LOSSES } from './loss-functions.js';
import { ownIdentity } from './own.js';

/** About 10 ms on two cores with AVX-512. */
const STEPS = 2 ** 22;

/** Multiply-adds in registers on all threads: what arithmetic in float32 is compared with. None without the addon. */
export function arithmeticYardstick({ shape }: LinearProblem): Contender[] {
  const addon = benchAddon();
  if (!addon) return [];
  return [
    {
      ...{ section: 'linear', op: 'multiply-add', by: ARITHMETIC, backend: null, dtype: 'f32', shape },
      threads: addon.cpuInfo().threads,
      moves: { read: 0, copied: 0 },
      memoryBound: false,
      flops: addon.multiplyAdd({ steps: STEPS }),
      check: () => null,
      run: () => addon.multiplyAdd({ steps: STEPS }),
    },
  ];
}

/** In one dtype on one backend. */
export function linearContenders(
  arena: LinearArena,
  layer: LinearLayer,
  gradients: LinearGradients,
  backend: BackendName,
  ops: readonly LinearOpName[],
): Contender[] {
  return ops.map((op): Contender => {
    const { gradients: wanted, run }: LinearOp = LINEAR_OPS[op];
    const { dtype } = layer;
    const { problem, rollouts } = arena;
    const { shape, targets, upstream } = problem;
    const inputs = { ...layer, targets, upstream, rollouts };
    const name = `${op} ${dtype}, ${backend}`;
    return {
      ...ownIdentity({ section: 'linear', shape, backend }),
      op,
      dtype,
      ...linearCosts(shape, dtype, wanted),
      check() {
        for (const one of wanted) gradients[one].data.fill(0); // what another op left there may be right
        const { error, upstream: toLogProbs } = checkValue(op, arena, run(inputs, backend, gradients), name);
        if (wanted.length === 0) return error;
        const rows = Object.fromEntries(wanted.map((one) => [one, tensorRows(gradients[one], name)]));
        return checkLinearGradients(name, rows, toLogProbs, arena, LINEAR_TOLERANCE.gradient[dtype]);
      },
      run: () => run(inputs, backend, gradients),
      peakBytes: () => peakOfOp({ op, dtype, backend, shape }),
    };
  });
}

/** Log-probs against float64, a loss against the reference backend's on log-probs; and where the gradients begin. */
function checkValue(
  op: LinearOpName,
  { problem, truth, logProbs, rollouts }: LinearArena,
  result: ReturnType<LinearOp['run']>,
  name: string,
): { error: number; upstream: ArrayLike<number> } {
  const { loss }: LinearOp = LINEAR_OPS[op];
  if (loss === undefined) {
    const error = valueError(result.logProbs ?? [], truth.rows, 'logProb');
    requireWithin(name, error, LINEAR_TOLERANCE.value);
    return { error, upstream: problem.upstream };
  }
  const expected = LOSSES[loss]({ ...rollouts, logProbs }, { backend: 'reference' });
  const error = lossError(result.loss, expected.loss);
  requireWithin(`${name}: loss`, error, LINEAR_TOLERANCE.value);
  return { error, upstream: expected.gradLogProbs ?? [] };
}

/**
 * The products of a forward and a backward pass alone, as this package multiplies: of hidden states and weight, and of a gradient
 * of the logits with either. On the cpu backend, in f32.
 */
export function productContenders({ problem }: LinearArena): Contender[] {
  const addon = benchAddon();
  if (!addon) return [];
  const { hidden, weight, shape } = problem;
  const { tokens, vocab, width } = shape;
  const logits = new Float32Array(tokens * vocab); // of the first product; of the others, a gradient of its size
  const toHidden = new Float32Array(tokens * width);
  const toWeight = new Float32Array(vocab * width);
  const forward = { left: hidden, right: weight, leftTransposed: false, rightTransposed: true };
  const products = {
    'GEMM hidden.weightT': { ...forward, rows: tokens, columns: vocab, depth: width, out: logits },
    'GEMM G.weight': { left: logits, right: weight, rows: tokens, columns: width, depth: vocab, out: toHidden },
    'GEMM GT.hidden': {
      ...{ left: logits, right: hidden, leftTransposed: true },
      ...{ rows: vocab, columns: width, depth: tokens, out: toWeight },
    },
  };
  return Object.entries(products).map(([op, one]): Contender => {
    const product = { leftTransposed: false, rightTransposed: false, ...one };
    return {
      ...ownIdentity({ section: 'linear', shape, backend: 'cpu' }),
      op,
      dtype: 'f32',
      moves: { read: product.left.byteLength + product.right.byteLength, copied: 0, written: product.out.byteLength },
      memoryBound: false,
      flops: productFlops(shape),
      check() {
        product.out.fill(Number.NaN);
        addon.matrixProduct(product);
        const error = productError(product);
        requireWithin(op, error, LINEAR_TOLERANCE.gradient.f32);
        return error;
      },
      run: () => addon.matrixProduct(product),
    };
  });
}

/** Elements of a product that are compared with float64. */
const SAMPLES = 64;

function productError({
  left,
  right,
  leftTransposed,
  rightTransposed,
  rows,
  columns,
  depth,
  out,
}: Parameters<NonNullable<ReturnType<typeof benchAddon>>['matrixProduct']>[0]): number {
  const samples = Array.from({ length: SAMPLES }, (_, k) => Math.floor((k * (rows * columns - 1)) / (SAMPLES - 1)));
  const exact = samples.map((at) => {
    const [i, j] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let k = 0; k < depth; k++) {
      const x = leftTransposed ? left[k * rows + i] : left[i * depth + k];
      sum += x * (rightTransposed ? right[j * depth + k] : right[k * columns + j]);
    }
    return sum;
  });
  return normError(
    samples.map((at) => out[at]),
    exact,
  );
}
