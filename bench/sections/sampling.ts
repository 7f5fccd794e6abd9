// Tokens drawn from the rows of logits: by the package, and as one would write it in TypeScript.

import { type SampledTokens, sampleTokensSync } from '../../lib/index.js';
import type { TokenArrays } from '../problems/arrays.js';
import { widen } from '../problems/data.js';
import { type RowTruth, requireWithin, softmaxSums, valueError } from '../problems/float64.js';
import { Random } from '../problems/random.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import type { Contender } from '../timing.js';
import { ownIdentity, type Setting } from './own.js';

/** Who writes a loop of their own. */
export const PLAIN = 'TypeScript';

const SEED = 1;

type Drawn = Pick<SampledTokens, 'ids' | 'logProbs' | 'keptIds' | 'cuKept'>;

/** The exact log-probs of what was drawn, over what was kept. */
function truthOf({ ids, keptIds, cuKept }: Drawn, { problem, source, dtype, truth }: TokenArrays): RowTruth[] {
  const { vocab } = problem.shape;
  return truth.map((exact) => {
    const all = widen(source, dtype, exact.row * vocab, (exact.row + 1) * vocab);
    const kept = cuKept && keptIds?.subarray(cuKept[exact.row], cuKept[exact.row + 1]);
    const { maximum, logSum } = softmaxSums(kept?.length ? Float64Array.from(kept, (id) => all[id]) : all);
    return { ...exact, logProb: all[ids[exact.row]] - maximum - logSum };
  });
}

/** A softmax, and the first id up to which there is more of it than the number drawn. */
function drawPlainly(logits: Float32Array, tokens: number, vocab: number): Drawn {
  const random = new Random(SEED);
  const ids = new Int32Array(tokens);
  const logProbs = new Float64Array(tokens);
  const masses = new Float64Array(vocab);
  for (let t = 0; t < tokens; t++) {
    const row = logits.subarray(t * vocab, (t + 1) * vocab);
    let largest = -Infinity;
    for (let v = 0; v < vocab; v++) if (row[v] > largest) largest = row[v];
    let total = 0;
    for (let v = 0; v < vocab; v++) {
      masses[v] = Math.exp(row[v] - largest);
      total += masses[v];
    }
    const goal = random.uniform() * total;
    let id = 0;
    let sum = masses[0];
    while (sum <= goal && id + 1 < vocab) sum += masses[++id];
    ids[t] = id;
    logProbs[t] = row[id] - largest - Math.log(total);
  }
  return { ids, logProbs };
}

function checked(name: string, drawn: Drawn, arrays: TokenArrays): number {
  const error = valueError(drawn.logProbs, truthOf(drawn, arrays), 'logProb');
  requireWithin(name, error, TOKEN_TOLERANCE.value);
  return error;
}

export function samplingContenders(arrays: TokenArrays, setting: Setting): Contender[] {
  const { dtype, slots, bytes, logits } = arrays;
  const { backend } = setting;
  const common = { ...ownIdentity(setting), dtype, slots, memoryBound: true, moves: { read: bytes, copied: 0 } };
  const contender = (op: string, filters: object): Contender => {
    const options = { ...filters, seed: SEED, backend };
    return {
      ...common,
      op,
      check: () =>
        checked(
          `${op} ${dtype}, ${backend}`,
          sampleTokensSync({ logits: logits[0] }, { ...options, kept: true }),
          arrays,
        ),
      run: (slot) => sampleTokensSync({ logits: logits[slot] }, options),
    };
  };
  return [contender('sample', {}), contender('sample, top-k, top-p', { topK: 50, topP: 0.95 })];
}

/** Of f32 logits on the host. */
export function plainSampling(arrays: TokenArrays, { section, shape }: Omit<Setting, 'backend'>): Contender {
  const { problem, dtype, bytes, source } = arrays;
  const { tokens, vocab } = problem.shape;
  const run = () => drawPlainly(source as Float32Array, tokens, vocab);
  return {
    ...{ section, shape, dtype, by: PLAIN, backend: null, threads: 1, op: 'sample' },
    memoryBound: true,
    moves: { read: bytes, copied: 0 },
    check: () => checked(`sample f32, ${PLAIN}`, run(), arrays),
    run,
  };
}
