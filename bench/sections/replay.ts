// The token level under sampling replay: as a sampler of 64 ids (top-k, or top-p on a language model's rows) leaves it.

import { tokenLogProbsBackwardSync, tokenLogProbsSync } from '../../lib/index.js';
import { finiteRows, type TokenArrays } from '../problems/arrays.js';
import { bytesPerElement, type TokenProblem, widen } from '../problems/data.js';
import {
  exactGradient,
  gradientError,
  type RowTruth,
  requireWithin,
  softmaxSums,
  valueError,
} from '../problems/float64.js';
import { Random } from '../problems/random.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import type { Contender } from '../timing.js';
import { ownIdentity, type Setting } from './own.js';

const MOST_KEPT = 64;

/** What the rows of this bench keep, at most. */
export const REPLAYED = `${MOST_KEPT} kept`;

interface Kept {
  readonly keptIds: Int32Array;
  readonly cuKept: Int32Array;
}

/** For every token its target and others, anywhere in the vocabulary: seldom two in a cache line, as a sampler has them. */
function keptOf({ shape: { tokens, vocab }, targets }: TokenProblem): Kept {
  const count = Math.min(MOST_KEPT, vocab);
  const random = new Random(tokens + vocab);
  const keptIds = new Int32Array(tokens * count);
  targets.forEach((target, t) => {
    const ids = new Set([target]);
    while (ids.size < count) ids.add(Math.floor(random.uniform() * vocab));
    keptIds.set(
      [...ids].sort((a, b) => a - b),
      t * count,
    );
  });
  return { keptIds, cuKept: Int32Array.from({ length: tokens + 1 }, (_, t) => t * count) };
}

/** The exact results over what is kept. */
function truthOver({ keptIds, cuKept }: Kept, { problem, source, dtype, truth }: TokenArrays): RowTruth[] {
  const { shape, targets, upstream } = problem;
  return truth.map(({ row }) => {
    const ids = keptIds.subarray(cuKept[row], cuKept[row + 1]);
    const all = widen(source, dtype, row * shape.vocab, (row + 1) * shape.vocab);
    const x = Float64Array.from(ids, (id) => all[id]);
    const sums = softmaxSums(x);
    const gradient = new Float64Array(shape.vocab);
    const ofKept = exactGradient(x, sums, ids.indexOf(targets[row]), upstream[row]);
    ids.forEach((id, k) => {
      gradient[id] = ofKept[k];
    });
    return { row, logProb: all[targets[row]] - sums.maximum - sums.logSum, entropy: sums.entropy, gradient };
  });
}

export function replayContenders(arrays: TokenArrays, setting: Setting): Contender[] {
  const { problem, dtype, slots, bytes, logits, work, restore } = arrays;
  const { targets, upstream: gradLogProbs } = problem;
  const { backend } = setting;
  const kept = keptOf(problem);
  const truth = truthOver(kept, arrays);
  const read = kept.keptIds.length * bytesPerElement(dtype);
  const common = { ...ownIdentity(setting), dtype, slots, memoryBound: false };
  const forward = (slot: number) => tokenLogProbsSync({ logits: logits[slot], targets, ...kept }, { backend });
  const both = (slot: number) => {
    const inputs = { logits: work[slot], targets, ...kept };
    const { logSumExp } = tokenLogProbsSync(inputs, { backend });
    tokenLogProbsBackwardSync({ ...inputs, logSumExp, gradLogProbs }, { gradient: 'in-place', backend });
    arrays.settle();
  };
  const name = (op: string) => `${op} ${dtype}, ${backend}`;
  const [first, second] = [`forward, ${REPLAYED}`, `both, ${REPLAYED}`];
  return [
    {
      ...common,
      op: first,
      moves: { read, copied: 0 },
      check() {
        const error = valueError(forward(0).logProbs, truth, 'logProb');
        requireWithin(name(first), error, TOKEN_TOLERANCE.value);
        return error;
      },
      run: forward,
    },
    {
      ...common,
      op: second,
      moves: { read, copied: 0, written: bytes },
      check() {
        both(0);
        const error = gradientError(finiteRows(arrays, arrays.gradient('work', 0), name(second)), truth);
        requireWithin(name(second), error, TOKEN_TOLERANCE.gradient[dtype]);
        restore(0);
        return error;
      },
      run: both,
      restore,
    },
  ];
}
