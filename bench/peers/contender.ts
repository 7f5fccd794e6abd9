// What the contenders of all peers have in common.
import type { HostArrays } from '../problems/arrays.js';
import { gradientError, requireWithin, valueError } from '../problems/float64.js';
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
