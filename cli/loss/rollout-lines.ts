import { describe } from '../../lib/errors.js';
import { UsageError } from '../errors.js';

/** One line of the input: a sequence with its verified reward. */
export interface Rollout {
  readonly group: string;
  readonly reward: number;
  readonly logProbs: Float64Array; // [n]
  readonly oldLogProbs: Float64Array | undefined; // [n]
  readonly refLogProbs: Float64Array | undefined; // [n]
  readonly rolloutLogProbs: Float64Array | undefined; // [n]
  /** In place of an estimator's. */
  readonly advantage: number | undefined;
  readonly mask: Uint8Array | undefined; // [n]
  /** The line itself. */
  readonly text: string;
}

/** Keys that every line has or none: the losses take them for a whole batch or not at all. */
const sharedKeys = {
  oldLogProbs: 'old_logprobs',
  refLogProbs: 'ref_logprobs',
  rolloutLogProbs: 'rollout_logprobs',
  advantage: 'advantage',
} as const;

/** All rollouts of a JSON Lines text, in order. Blank lines are skipped. */
export async function readRollouts(chunks: AsyncIterable<string>, source: string): Promise<Rollout[]> {
  const rollouts: Rollout[] = [];
  let firstLine = 0;
  let line = 0;
  for await (const text of splitLines(chunks)) {
    line++;
    if (text.trim() === '') continue;
    try {
      const rollout = parseRollout(text);
      if (rollouts.length === 0) firstLine = line;
      else requireSameKeys(rollout, rollouts[0], firstLine);
      rollouts.push(rollout);
    } catch (error) {
      if (error instanceof UsageError) throw new UsageError(`${source}:${line}: ${error.message}`);
      throw error;
    }
  }
  return rollouts;
}

/**
 * Lines end at \n, and only there: `node:readline` also splits at U+2028, which JSON allows inside a string. A carriage
 * return before \n is white space to JSON.
 */
async function* splitLines(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let pending: string[] = [];
  let first = true;
  for await (const chunk of chunks) {
    const [head, ...rest] = (first ? chunk.replace(/^\u{feff}/u, '') : chunk).split('\n');
    first = false;
    pending.push(head);
    for (const part of rest) {
      yield pending.join('');
      pending = [part];
    }
  }
  yield pending.join('');
}

export function parseRollout(text: string): Rollout {
  const record = parseObject(text);
  const logProbs = numberArray(record, 'logprobs');
  return {
    group: groupName(record.group),
    reward: finite('"reward"', record.reward),
    logProbs,
    oldLogProbs: optional(record, 'old_logprobs', logProbs.length),
    refLogProbs: optional(record, 'ref_logprobs', logProbs.length),
    rolloutLogProbs: optional(record, 'rollout_logprobs', logProbs.length),
    advantage: record.advantage === undefined ? undefined : finite('"advantage"', record.advantage),
    mask: maskArray(record, logProbs.length),
    text,
  };
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`expected a JSON object, got text that is not JSON (${(error as Error).message})`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw expected('', 'a JSON object', value);
  return value as Record<string, unknown>;
}

/** The number 7 and the string "7" are one group: a table would show them alike. */
function groupName(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  throw expected('"group"', 'a string or a number', value);
}

function numberArray(record: Record<string, unknown>, key: string): Float64Array {
  const values = record[key];
  if (!Array.isArray(values)) throw expected(`"${key}"`, 'an array of finite numbers', values);
  return Float64Array.from(values, (value: unknown, t) => finite(`"${key}"[${t}]`, value));
}

function optional(record: Record<string, unknown>, key: string, length: number): Float64Array | undefined {
  if (record[key] === undefined) return undefined;
  const values = numberArray(record, key);
  if (values.length !== length) throw wrongLength(key, length, values.length);
  return values;
}

function maskArray(record: Record<string, unknown>, length: number): Uint8Array | undefined {
  const values = record.mask;
  if (values === undefined) return undefined;
  if (!Array.isArray(values)) throw expected('"mask"', 'an array of 0 and 1', values);
  if (values.length !== length) throw wrongLength('mask', length, values.length);
  return Uint8Array.from(values, (value: unknown, t) => {
    if (value !== 0 && value !== 1) throw expected(`"mask"[${t}]`, '0 or 1', value);
    return value;
  });
}

/** JSON has no infinities, but it has 1e999. */
function finite(name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw expected(name, 'a finite number', value);
  return value;
}

function requireSameKeys(rollout: Rollout, first: Rollout, firstLine: number): void {
  for (const [property, key] of Object.entries(sharedKeys) as [keyof typeof sharedKeys, string][]) {
    if ((rollout[property] === undefined) === (first[property] === undefined)) continue;
    const [here, there] = rollout[property] === undefined ? ['none', 'has it'] : ['one', 'has none'];
    throw new UsageError(
      `"${key}": expected on all lines or on none, got ${here} here, while line ${firstLine} ${there}`,
    );
  }
}

function wrongLength(key: string, length: number, got: number): UsageError {
  return new UsageError(`"${key}": expected ${length} values, as many as "logprobs", got ${got}`);
}

function expected(name: string, what: string, got: unknown): UsageError {
  const subject = name === '' ? '' : `${name}: `;
  return new UsageError(`${subject}expected ${what}, got ${got === undefined ? 'nothing' : describe(got)}`);
}
