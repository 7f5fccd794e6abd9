// What the contenders of all peers have in common.
import type { DType } from '../../lib/index.js';
import type { HostArrays } from '../problems/arrays.js';
import { gradientError, requireWithin, valueError } from '../problems/float64.js';
import { checkLinearGradients, type LinearArena, linearCosts, type WantedGradients } from '../problems/linear.js';
import type { Contender } from '../timing.js';

export interface PeerCall {
  readonly by: string;
  readonly op: string;
  readonly threads: number;
  readonly run: Contender['run'];
}

/** The peers sum in float32. */
const TOLERANCE = 1e-5;

function common({ problem: { shape }, slots }: HostArrays, call: PeerCall): Omit<Contender, 'moves' | 'check'> {
  return { section: 'token', backend: null, dtype: 'f32', shape, memoryBound: true, slots, ...call };
}

/** `logProbs`: of all rows, from the first slot. */
export function forwardContender(
  arrays: HostArrays,
  call: PeerCall,
  logProbs: () => Promise<ArrayLike<number>>,
  tolerance = TOLERANCE,
): Contender {
  return {
    ...common(arrays, call),
    moves: { read: arrays.bytes, copied: 0 },
    async check() {
      const error = valueError(await logProbs(), arrays.truth, 'logProb');
      requireWithin(`${call.by} ${call.op}`, error, tolerance);
      return error;
    },
  };
}

/** `gradientRows`: from the first slot; throws if any is not finite. */
export function forwardBackwardContender(
  arrays: HostArrays,
  call: PeerCall,
  gradientRows: (rows: number[]) => Promise<ArrayLike<number>[]>,
): Contender {
  return {
    ...common(arrays, call),
    moves: { read: arrays.bytes, copied: arrays.bytes },
    async check() {
      const rows = arrays.truth.map(({ row }) => row);
      const gradients = await gradientRows(rows);
      const error = gradientError((row) => gradients[rows.indexOf(row)], arrays.truth);
      requireWithin(`${call.by} ${call.op}`, error, TOLERANCE);
      return error;
    },
  };
}

/** From hidden states, their sums are of float32 products; in bf16 they round the logits to it, of which the largest count most. */
const LINEAR_TOLERANCE: Readonly<Record<DType, number>> = { f32: 2e-5, bf16: 2e-2, f16: 2e-2 };

interface LinearAnswer {
  /** Log-probs of all rows, and of gradients the rows that are asked for, one after another. */
  answer(rows: { readonly hidden: number[]; readonly weight: number[] }): Promise<Record<string, ArrayLike<number>>>;
  peakBytes(): Promise<number | undefined>;
}

/** Log-probs, or the gradients that are `wanted`, from hidden states. */
export function linearContender(
  arena: LinearArena,
  call: PeerCall & { readonly dtype: DType },
  wanted: WantedGradients,
  { answer, peakBytes }: LinearAnswer,
): Contender {
  const { problem, truth } = arena;
  const { width } = problem.shape;
  const rows = { hidden: truth.rows.map(({ row }) => row), weight: truth.columns.map(({ column }) => column) };
  const name = `${call.by} ${call.op} ${call.dtype}`;
  const tolerance = LINEAR_TOLERANCE[call.dtype];
  return {
    ...{ section: 'linear', backend: null, shape: problem.shape, ...call },
    ...linearCosts(problem.shape, call.dtype, wanted),
    async check() {
      const values = await answer(rows);
      if (wanted.length === 0) {
        const error = valueError(values.logProbs, truth.rows, 'logProb');
        requireWithin(name, error, tolerance);
        return error;
      }
      const rowsOf = wanted.map((matrix) => {
        const data = Array.from(values[matrix]);
        const place = (row: number) => rows[matrix].indexOf(row) * width;
        return [matrix, (row: number) => data.slice(place(row), place(row) + width)];
      });
      return checkLinearGradients(name, Object.fromEntries(rowsOf), problem.upstream, arena, tolerance);
    },
    peakBytes,
  };
}
