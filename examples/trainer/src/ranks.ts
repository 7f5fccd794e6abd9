// Data parallel: each rank has some of the problems of every step, the losses and their gradients are those of all (the package's `parallel`),
// and the gradients of the weights are added up. Every rank then takes the same step.
import type { Communicator } from 'rlvr-kernels';
import type { Gradients } from './adam.js';

/** Of things [from, to) those of this rank. */
export function shareOf(from: number, to: number, ranks: Communicator | undefined): [from: number, to: number] {
  if (!ranks) return [from, to];
  const { rank, size } = ranks;
  const [begin, end] = [rank, rank + 1].map((r) => from + Math.floor((r * (to - from)) / size)) as [number, number];
  return [begin, end];
}

/** The sum of the gradients of all ranks, the same bits on each; one exchange. */
export function addedUp(gradients: Gradients, ranks: Communicator | undefined): Gradients {
  if (!ranks) return gradients;
  const entries = Object.entries(gradients);
  const sums = new Float64Array(entries.reduce((length, [, values]) => length + values.length, 0));
  let begin = 0;
  for (const [, values] of entries) {
    sums.set(values, begin);
    begin += values.length;
  }
  ranks.allReduceSync(sums, 'sum');
  begin = 0;
  return Object.fromEntries(
    entries.map(([name, { length }]) => {
      begin += length;
      return [name, Float32Array.from(sums.subarray(begin - length, begin))];
    }),
  );
}

/** The mean of the values of all ranks. */
export function meanOf(values: readonly number[], ranks: Communicator | undefined): number {
  const sums = Float64Array.of(
    values.reduce((a, b) => a + b, 0),
    values.length,
  );
  ranks?.allReduceSync(sums, 'sum');
  return sums[0]! / sums[1]!;
}
