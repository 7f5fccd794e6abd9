// Whole rows of logits from the columns that ranks hold of them (spec section 12): each reads its own once, and a few numbers for each row
// meet. From there on all have the whole row's log-prob, and the gradient of the columns is each rank's own.
import { badArgument } from '../errors.js';
import { hashedNumbers } from '../hashes.js';
import { NO_TARGET } from '../kernels.js';
import { newArray } from '../memory.js';
import { requireSame } from '../run/agreement.js';
import { type MaybePending, type Pending, read, type Task } from '../run/task.js';
import { findIndex, mapped, type Sliced, slices } from '../slices.js';
import type { Rows } from '../token-rows.js';
import type { CheckedSequences } from './batch.js';
import type { Columns } from './columns.js';

/**
 * Meets the ranks that hold the other columns, and checks that each column is held once and each target is one. `agreement` stands for what
 * else must be the same on all.
 */
export function* meetColumns(
  checked: CheckedSequences,
  { ranks, start, targets, kept }: Columns,
  agreement: readonly number[],
): Task<void> {
  const { tokens, cuSeqlens, mask } = checked;
  const read = mask ? targets.map((id, t) => (mask[t] === 0 ? 0 : id)) : targets;
  const same = [...agreement, yield* hashedNumbers([cuSeqlens, mask, read, kept?.keptIds, kept?.cuKept])];
  const parts: Float64Array[] = yield* ranks.gather([...same, start, vocabOf(checked)]);
  requireSame(
    'parallel.vocab',
    'tokens, kept ids, groups, rewards, loss, options and fields of the batch',
    ranks,
    parts,
    same.length,
  );
  const spans = parts.map((part) => Array.from(part.subarray(same.length))).sort(([a], [b]) => a - b);
  let vocab = 0;
  for (const [first, count] of spans) {
    if (first !== vocab) {
      const got = `columns from ${first} on`;
      throw badArgument('ERR_RANK', 'parallel.vocab.start', `each column on one rank, also ${vocab}`, got);
    }
    vocab += count;
  }
  const outside = yield* findIndex(tokens, (t) => targets[t] >= vocab && mask?.[t] !== 0);
  const expected = `ids in [0, ${vocab})`;
  if (outside !== -1) throw badArgument('ERR_RANGE', 'targets', expected, `${targets[outside]} at index ${outside}`);
  if (!kept) return;
  const { keptIds, cuKept } = kept;
  const largest = (t: number) => (cuKept[t + 1] > cuKept[t] ? keptIds[cuKept[t + 1] - 1] : 0);
  const beyond = yield* findIndex(tokens, (t) => largest(t) >= vocab && mask?.[t] !== 0);
  if (beyond === -1) return;
  throw badArgument('ERR_RANGE', 'keptIds', expected, `${largest(beyond)} at index ${cuKept[beyond + 1] - 1}`);
}

const vocabOf = ({ rows, layer }: CheckedSequences) => rows?.view.vocab ?? layer!.weight.rows;

/** What a rank tells of a row: [T] each. */
interface Told {
  logSumExp: Float64Array; // of its columns; -inf where all are; NaN: not finite otherwise
  atTarget: Float64Array; // the scaled logit of the target if that is here, else 0
  mean: Float64Array | undefined; // the mean of the scaled logits under the probabilities of these columns, for entropies
}

/** Rows that were read, from logits or from hidden states. */
type ReadRows = Pick<Rows, 'targets' | 'mask'>;

/** What a pass over rows leaves of them. */
interface RowResults {
  logProbs: MaybePending<Float64Array>; // [T]
  logSumExp: Pending<Float64Array> | undefined; // [T]
  entropy: Pending<Float64Array> | undefined; // [T]
  mask: MaybePending<Uint8Array> | undefined; // [T]
  nonFinite: MaybePending<Int32Array>; // [1]
}

/** The results of whole rows from those of this rank's columns. */
export function* wholeRows<L extends RowResults>(own: L, rows: ReadRows, { ranks, without }: Columns): Task<L> {
  const [logProbs, logSumExp, entropy, kept] = yield* read(own.logProbs, own.logSumExp!, own.entropy, own.mask!);
  const told = yield* toldOf(rows, { logProbs, logSumExp, entropy, kept, without });
  const tokens = rows.targets.length;
  const parts = (yield* ranks.gather(told.logSumExp, told.atTarget, told.mean)).map((part) => ({
    logSumExp: part.subarray(0, tokens),
    atTarget: part.subarray(tokens, 2 * tokens),
    mean: told.mean && part.subarray(2 * tokens),
  }));
  return Object.assign({}, own, yield* merged(parts, tokens, rows.mask)) as L;
}

interface OwnRows {
  logProbs: Float64Array;
  logSumExp: Float64Array;
  entropy: Float64Array | undefined;
  kept: Uint8Array;
  without: Uint8Array | undefined;
}

function* toldOf({ targets, mask }: ReadRows, { logProbs, logSumExp, entropy, kept, without }: OwnRows): Sliced<Told> {
  const sums = yield* mapped(logSumExp, (sum, t) => {
    if (mask?.[t] === 0) return 0;
    if (kept[t] !== 0 || sum === -Infinity) return sum;
    return without?.[t] === 1 ? -Infinity : Number.NaN;
  });
  const atTarget = yield* mapped(logProbs, (logProb, t) => (targets[t] === NO_TARGET ? 0 : logProb + logSumExp[t]));
  const mean = entropy && (yield* mapped(entropy, (H, t) => logSumExp[t] - H));
  return { logSumExp: sums, atTarget, mean };
}

/** The rows of which these are parts. */
function* merged(parts: readonly Told[], tokens: number, mask: Uint8Array | undefined) {
  const array = () => newArray('logProbs', Float64Array, tokens);
  const [logProbs, logSumExp, entropy] = [array(), array(), parts[0].mean && array()];
  const kept = newArray('logProbs', Uint8Array, tokens);
  const nonFinite = new Int32Array(1);
  yield* slices(tokens, (begin, end) => {
    for (let t = begin; t < end; t++) {
      if (mask?.[t] === 0) continue;
      let largest = -Infinity;
      for (const part of parts) largest = Math.max(largest, part.logSumExp[t]);
      let sum = 0;
      let atTarget = 0;
      for (const part of parts) {
        sum += Math.exp(part.logSumExp[t] - largest);
        atTarget += part.atTarget[t];
      }
      const whole = largest + Math.log(sum);
      if (!Number.isFinite(whole) || !Number.isFinite(atTarget)) {
        nonFinite[0]++;
        continue;
      }
      kept[t] = 1;
      logSumExp[t] = whole;
      logProbs[t] = atTarget - whole;
      if (entropy) entropy[t] = entropyOf(parts, whole, t);
    }
  });
  return { logProbs, logSumExp, entropy, mask: kept, nonFinite };
}

function entropyOf(parts: readonly Told[], whole: number, t: number): number {
  let mean = 0;
  for (const part of parts) {
    const share = Math.exp(part.logSumExp[t] - whole);
    if (share > 0) mean += share * part.mean![t];
  }
  return Math.max(whole - mean, 0);
}
