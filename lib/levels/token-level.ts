// The token level of a batch: log-probs from logits, or as they were given.
import type { LogitsData } from '../kernels.js';
import * as token from '../ops/token-log-probs.js';
import { read, type Task } from '../run/task.js';
import { type CheckedSequences, givenLogProbs } from './batch.js';

// The arrays of these interfaces may still be on a device: they hold their values only after a read.

/** The token level of a batch, done. */
export interface TokenLevel {
  checked: CheckedSequences;
  logProbs: Float64Array; // [T]
  logSumExp: Float64Array | undefined; // [T], from logits
  entropy: Float64Array | undefined; // [T], on request
  mask: Uint8Array | undefined; // [T], without non-finite tokens
  nonFinite: Int32Array; // [1] their number
}

export function* tokenLevelTask(checked: CheckedSequences, entropy: boolean): Task<TokenLevel> {
  if (!checked.rows) return { checked, logSumExp: undefined, entropy: undefined, ...givenLogProbs(checked) };
  const arrays = yield* token.forwardTask(checked.rows, entropy);
  const { logProbs, logSumExp, kept, nonFinite } = arrays;
  return { checked, logProbs, logSumExp, entropy: arrays.entropy, mask: kept, nonFinite };
}

/**
 * Reads `nonFinite` and the given arrays, and throws if there were non-finite tokens and that is an error. Returns their
 * number.
 */
export function* readResults(
  { checked, mask, nonFinite }: TokenLevel,
  arrays: readonly (LogitsData | Float64Array | Int32Array | Uint8Array | undefined)[],
): Task<number> {
  yield* read(nonFinite, ...arrays);
  const { rows, onNonFinite } = checked;
  return rows ? yield* token.checkFinite(rows, { kept: mask!, nonFinite }, onNonFinite) : nonFinite[0];
}

/** [T] log-probs for the caller, once read. Of given ones a copy, 0 where a token does not count, as from logits. */
export function ownLogProbs({ checked, logProbs, mask }: TokenLevel): Float64Array {
  if (checked.rows) return logProbs;
  return mask ? logProbs.map((logProb, t) => (mask[t] === 0 ? 0 : logProb)) : logProbs.slice();
}

/** The mask on the host. It is the given one, already there, unless non-finite tokens are skipped. */
export function* maskTask({ checked, mask }: TokenLevel): Task<Uint8Array | undefined> {
  if (checked.rows && checked.onNonFinite === 'error') return checked.mask;
  yield* read(mask);
  return mask;
}

/** Tokens that count in each sequence, where the host needs them before there is a score. [N] */
export function* tokenCountsTask(level: TokenLevel): Task<Float64Array> {
  const { cuSeqlens, sequences } = level.checked;
  const counts = new Float64Array(sequences);
  const mask = yield* maskTask(level);
  for (let i = 0; i < sequences; i++) {
    if (!mask) counts[i] = cuSeqlens[i + 1] - cuSeqlens[i];
    else for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) counts[i] += mask[t] === 0 ? 0 : 1;
  }
  return counts;
}
