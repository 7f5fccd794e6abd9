// How every call between ranks begins: each tells the others what it is about to do, and how many numbers it has. So ranks that do not
// do the same learn it together, from the same facts, and none is left waiting for another.
import { RlvrError } from '../errors.js';

/** What a rank may be about to do. The names are those of the calls, for messages; numbers, their indices here, go between ranks. */
export const CALLS = ["allReduce 'sum'", "allReduce 'max'", 'allGather', 'split', 'close', 'a refused call'] as const;

export type CallName = (typeof CALLS)[number];

/** What one rank said. */
export interface Announcement {
  call: CallName;
  length: number;
}

/** Refuses what does not fit together. */
export function checkMeeting(met: readonly Announcement[], rank: number): void {
  const own = met[rank];
  const without = (call: CallName) => met.findIndex((other, r) => r !== rank && other.call === call);
  const refused = without('a refused call');
  if (own.call === 'a refused call') return; // its own error is thrown
  if (refused !== -1) throw otherRank(refused, met.length, 'refused its arguments; its own error says which');
  const closed = without('close');
  if (own.call === 'close') return;
  if (closed !== -1) throw otherRank(closed, met.length, 'was closed');
  const other = met.findIndex(({ call }) => call !== own.call);
  if (other !== -1)
    throw otherRank(other, met.length, `called ${met[other].call}, while rank ${rank} called ${own.call}`);
  if (own.call === 'allGather' || own.call === 'split') return;
  const longer = met.findIndex(({ length }) => length !== met[0].length);
  if (longer === -1) return;
  const got = `${met[0].length} on rank 0 and ${met[longer].length} on rank ${longer}`;
  throw new RlvrError('ERR_SHAPE', `values: expected the same length on every rank, got ${got}`);
}

/** Another rank is the reason why a call failed here. */
export function otherRank(rank: number, size: number, what: string): RlvrError {
  return new RlvrError('ERR_RANK', `rank ${rank} of ${size} ${what}`);
}
