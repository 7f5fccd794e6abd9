// What must be the same on all ranks that compute a loss together, as numbers: where it differs, so might what they exchange.
import { badArgument } from '../errors.js';
import { hashedText } from '../hashes.js';
import type { Ranks } from './ranks.js';

/** Options that each rank has for itself. */
const OWN_OPTIONS: ReadonlySet<string> = new Set([
  ...['gradient', 'gradHidden', 'gradWeight', 'gradBias', 'chunkBytes'],
  ...['backend', 'signal', 'copyInputs', 'logProbs', 'perToken', 'grid', 'parallel'],
]);

/** Fields that a loss may exchange something for, or have metrics of. */
const FIELDS = [
  ...['rewards', 'cuGroups', 'groupIds', 'advantages', 'oldLogProbs', 'refLogProbs'],
  ...['rolloutLogProbs', 'rolloutWeights', 'teacherLogProbs', 'tokenWeights'],
];

/** A number below 2^32 for what makes a loss, its options, and the fields that a batch has. */
export function agreementOn(batch: object, options: object, loss: readonly unknown[]): number {
  const shared = Object.entries(options).filter(([name, value]) => !OWN_OPTIONS.has(name) && value !== undefined);
  const fields = FIELDS.filter((name) => (batch as Record<string, unknown>)[name] !== undefined);
  const fromLogProbs = (batch as { logProbs?: unknown }).logProbs !== undefined; // there are no entropies then
  return hashedText(JSON.stringify([loss, shared.sort(byName), fields, fromLogProbs], plain));
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : 1);

/** What JSON leaves out or refuses, as words. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return typeof value === 'bigint' || typeof value === 'function' ? String(value) : value;
}

/** Throws where the first numbers that a rank told, so many as it is `told`, differ from those of another. */
export function requireSame(
  argument: string,
  what: string,
  ranks: Ranks,
  parts: readonly Float64Array[],
  told: number,
) {
  const own = parts[ranks.rank];
  const other = parts.findIndex((part) => own.subarray(0, told).some((number, k) => part[k] !== number));
  if (other === -1) return;
  const got = `others on rank ${other} than on rank ${ranks.rank}`;
  throw badArgument('ERR_RANK', argument, `the same ${what} on all ranks`, got);
}
