// What the ranks of a call make together of the batch of one (spec section 12), before any row of it is read.

import { hashedNumbers } from '../hashes.js';
import { type CheckedGroups, type CheckedSequences, withMask } from '../levels/batch.js';
import { meetColumns } from '../levels/whole-rows.js';
import { meetTokens, ownTokens, type Pieces } from '../levels/whole-sequences.js';
import { alone, meet, type Whole } from '../objectives/whole-batch.js';
import type { RankGrid } from '../run/ranks.js';
import type { Task } from '../run/task.js';
import type { Sliced } from '../slices.js';

/** A batch as an objective sees it. */
export interface WholeCall<B> {
  batch: B;
  sequences: CheckedSequences; // whole ones
  pieces: Pieces | undefined; // where other ranks hold other tokens of them
  whole: Whole; // of all ranks
}

/** Meets the ranks in each direction. `agreement` is a number that stands for what must be the same on all. */
export function* meetRanks<B extends object>(
  grid: RankGrid | undefined,
  batch: B,
  own: CheckedSequences,
  groups: CheckedGroups,
  agreement: number,
): Task<WholeCall<B>> {
  if (!grid) return { batch, sequences: own, pieces: undefined, whole: alone(own.sequences, groups) };
  const { rewards, rewardColumns, cuGroups, groupOrder } = groups;
  const shared = own.columns || grid.sequence ? [rewards, rewardColumns, cuGroups, groupOrder] : [];
  const same = [agreement, yield* hashedNumbers(shared)];
  if (own.columns) yield* meetColumns(own, own.columns, same);
  const pieces = grid.sequence && (yield* meetTokens(grid.sequence, own, batch, same));
  const sequences = pieces?.whole ?? own;
  const whole = grid.data ? yield* meet(grid.data, sequences, groups, agreement) : alone(own.sequences, groups);
  return { batch: pieces ? withFields(batch, pieces.fields) : batch, sequences, pieces, whole };
}

/** A batch with some fields in place of its own. */
function withFields<B extends object>(batch: B, fields: object): B {
  return Object.create(batch, Object.getOwnPropertyDescriptors(fields));
}

/** This rank's own tokens, with its part of the mask that an objective has left. */
export function* ownSequences(
  own: CheckedSequences,
  pieces: Pieces,
  mask: Uint8Array | undefined,
): Sliced<CheckedSequences> {
  return mask ? withMask(own, yield* ownTokens(pieces, mask)) : own;
}
