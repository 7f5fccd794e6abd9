// What must be the same on all ranks that compute a loss together, as a number: where it differs, so might what they exchange.

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
  return hashed(JSON.stringify([loss, shared.sort(byName), fields, fromLogProbs], plain));
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : 1);

/** What JSON leaves out or refuses, as words. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return typeof value === 'bigint' || typeof value === 'function' ? String(value) : value;
}

/** FNV-1a (Fowler, Noll, Vo), of 32 bits. */
function hashed(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
