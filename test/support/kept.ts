// Sampling replay in tests: what a sampler left of the vocabulary, and logits on which banning says the same.
import { Random } from '../../bench/problems/random.js';

export interface Kept {
  keptIds: Int32Array;
  cuKept: Int32Array;
}

/** For each token its target and others, each with `share`; every fifth token keeps the whole vocabulary, by an empty range. */
export function randomKept(seed: number, targets: Int32Array, vocab: number, share = 0.3): Kept {
  const random = new Random(seed);
  const ids: number[] = [];
  const cuKept = [0];
  targets.forEach((target, t) => {
    for (let v = 0; v < vocab && t % 5 !== 4; v++) if (random.uniform() < share || v === target) ids.push(v);
    cuKept.push(ids.length);
  });
  return { keptIds: Int32Array.from(ids), cuKept: Int32Array.from(cuKept) };
}

/** Whether token t keeps id v. */
export function keeps({ keptIds, cuKept }: Kept, t: number, v: number): boolean {
  const ids = keptIds.subarray(cuKept[t], cuKept[t + 1]);
  return ids.length === 0 || ids.includes(v);
}

/** Elements of [T, V] with another value wherever an id is not kept. */
export function replaced<A extends Float32Array | Float64Array>(values: A, kept: Kept, vocab: number, by: number): A {
  return values.map((value, i) => (keeps(kept, Math.floor(i / vocab), i % vocab) ? value : by)) as A;
}
