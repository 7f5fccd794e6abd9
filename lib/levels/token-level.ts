// The token level of a batch: log-probs from logits or hidden states, or as given.
import { countTokens } from '../groups.js';
import type { BackendName, TokenTerms } from '../kernels.js';
import type { LogitsView } from '../logits.js';
import * as linear from '../ops/linear-log-probs.js';
import * as token from '../ops/token-log-probs.js';
import { type MaybePending, type OpenedAll, type Pending, read, readAll, type Task } from '../run/task.js';
import { mapped, type Sliced } from '../slices.js';
import { type CheckedSequences, type GivenLogProbs, givenLogProbs } from './batch.js';
import { heldMask } from './columns.js';
import { wholeRows } from './whole-rows.js';

/** The token level of a batch, computed. */
export interface TokenLevel {
  checked: CheckedSequences;
  /** For a batch of log-probs: those and their mask, which are on the host. */
  given: GivenLogProbs | undefined;
  logProbs: MaybePending<Float64Array>; // [T]
  logSumExp: Pending<Float64Array> | undefined; // [T], unless given
  entropy: MaybePending<Float64Array> | undefined; // [T], on request
  mask: MaybePending<Uint8Array> | undefined; // [T], without non-finite tokens
  nonFinite: MaybePending<Int32Array>; // [1] the number of those
  keptLogits?: linear.KeptLogits | undefined; // from hidden states
}

/** What is known of the tokens before their log-probs are. */
export type KnownTokens = Pick<TokenLevel, 'checked' | 'given' | 'mask'>;

/** Those, and where they have been computed already log-probs and entropies. */
export type TokensSoFar = KnownTokens & Partial<Pick<TokenLevel, 'logProbs' | 'entropy'>>;

/** Those of a batch from logits, as long as none of its rows is dropped. */
export function knownTokens(checked: CheckedSequences): KnownTokens {
  return { checked, given: undefined, mask: checked.mask };
}

/** A token level whose gradient was written in the same pass. */
export interface WrittenTokenLevel extends TokenLevel {
  written: token.BackwardArrays;
}

/** A batch's token level from logits, and with it the gradient of `terms`, or `onehot - p`. */
export function* onePassTask(
  checked: CheckedSequences,
  entropy: boolean,
  gradient: LogitsView,
  terms: TokenTerms<Pending<Float64Array>> | undefined,
): Task<WrittenTokenLevel> {
  const both = yield* token.onePassTask(checked.rows!, entropy, gradient, terms);
  const { kept: mask, gradLogits, badRows, ...arrays } = both;
  return { checked, given: undefined, ...arrays, mask, written: { gradLogits, badRows } };
}

/** A batch's token level; `keepOn`: where a backward pass will follow, in the same call if that is a device. */
export function* tokenLevelTask(
  checked: CheckedSequences,
  entropy: boolean,
  keepOn: BackendName | undefined,
): Task<TokenLevel> {
  const { rows, layer } = checked;
  if (layer) {
    const arrays = yield* linear.forwardTask(layer, entropy, { chunkBytes: checked.chunkBytes, keepOn });
    const { kept: mask, logits: keptLogits, ...others } = arrays;
    const level = { checked, given: undefined, ...others, mask, keptLogits };
    return checked.columns ? yield* wholeRows(level, layer, checked.columns) : level;
  }
  if (!rows) {
    const given = yield* givenLogProbs(checked);
    const { logProbs, mask, nonFinite } = given;
    return { checked, given, logProbs, logSumExp: undefined, entropy: undefined, mask, nonFinite };
  }
  const held = checked.columns ? { ...rows, mask: yield* heldMask(checked.columns, rows.mask) } : rows;
  const arrays = yield* token.forwardTask(held, entropy);
  const { logProbs, logSumExp, kept, nonFinite } = arrays;
  const level = { checked, given: undefined, logProbs, logSumExp, entropy: arrays.entropy, mask: kept, nonFinite };
  return checked.columns ? yield* wholeRows(level, rows, checked.columns) : level;
}

/**
 * Reads arrays, by name, among them the number of non-finite tokens; throws if there are any and that is an error.
 */
export function* readResults<R extends Pick<TokenLevel, 'nonFinite'>>(
  { checked, mask }: TokenLevel,
  arrays: R,
): Task<OpenedAll<R>> {
  const opened = yield* readAll(arrays);
  const [count] = opened.nonFinite as Int32Array;
  const { rows, layer, onNonFinite } = checked;
  if (rows) yield* token.checkFinite(rows, count, mask!, onNonFinite);
  if (layer) yield* linear.checkForward(layer, count, mask!, onNonFinite);
  return opened;
}

/** [T] log-probs for the caller, once read. Given ones are copied, 0 where a token does not count, as from logits. */
export function* ownLogProbs({ given }: TokenLevel, logProbs: Float64Array): Sliced<Float64Array> {
  if (!given) return logProbs;
  const { mask } = given;
  return yield* mapped(logProbs, (logProb, t) => (mask?.[t] === 0 ? 0 : logProb));
}

/** The mask on the host. It is the given one, already there, unless non-finite rows are skipped. */
export function* maskTask({ checked, given, mask }: KnownTokens): Task<Uint8Array | undefined> {
  if (given) return given.mask;
  if (checked.onNonFinite === 'error') return checked.mask;
  const [kept] = yield* read(mask);
  return kept;
}

/** Tokens that count in each sequence, where the host needs them before there is a score. [N] */
export function* tokenCountsTask(level: KnownTokens): Task<Float64Array> {
  return yield* countTokens(level.checked.cuSeqlens, yield* maskTask(level));
}
