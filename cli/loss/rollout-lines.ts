import { describe } from '../../lib/errors.js';
import { UsageError } from '../errors.js';
import { type Chunks, readLines } from '../input-file.js';
import { rawMembers } from './json-members.js';

/** One line of the input: a sequence with its verified reward. */
export interface Rollout {
  readonly group: string;
  readonly reward: number;
  readonly logProbs: Float64Array; // [n]
  readonly oldLogProbs: Float64Array | undefined; // [n]
  readonly refLogProbs: Float64Array | undefined; // [n]
  readonly rolloutLogProbs: Float64Array | undefined; // [n]
  readonly teacherLogProbs: Float64Array | undefined; // [n]
  readonly tokenWeights: Float64Array | undefined; // [n]
  readonly rolloutWeights: Float64Array | undefined; // [n]
  /** In place of an estimator's. */
  readonly advantage: number | undefined;
  readonly mask: Uint8Array | undefined; // [n]
  /** The line itself. */
  readonly text: string;
}

/** A line's members, and the text of one. */
interface Members {
  readonly values: Readonly<Record<string, unknown>>;
  written(key: string): string;
}

/** Keys that every line has or none: the losses take them for a whole batch or not at all. */
const sharedKeys = {
  oldLogProbs: 'old_logprobs',
  refLogProbs: 'ref_logprobs',
  rolloutLogProbs: 'rollout_logprobs',
  teacherLogProbs: 'teacher_logprobs',
  tokenWeights: 'token_weights',
  rolloutWeights: 'rollout_weights',
  advantage: 'advantage',
} as const;

/** Keys that are spelt as in the package's batches too. */
const SPELLINGS: Readonly<Record<string, string>> = {
  logprobs: 'logProbs',
  ...Object.fromEntries(Object.entries(sharedKeys).map(([property, key]) => [key, property])),
};

/**
 * All rollouts of a JSON Lines text, in order, one at least. Blank lines are skipped. Throws a UsageError that begins with the source and
 * the number of the line.
 */
export async function readRollouts(chunks: Chunks, source: string): Promise<Rollout[]> {
  const rollouts: Rollout[] = [];
  let firstLine = 0;
  for await (const { line, text } of readLines(chunks, source)) {
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
  if (rollouts.length === 0) throw new UsageError(`${source}: expected a rollout on each line, got no lines`);
  return rollouts;
}

/** One line, without its number in the errors. */
export function parseRollout(text: string): Rollout {
  const members = parseObject(text);
  const logProbs = numberArray(members, spelt(members, 'logprobs'));
  const perToken = (key: string) => optional(members, spelt(members, key), logProbs.length);
  return {
    group: groupName(members),
    reward: number(members, 'reward'),
    logProbs,
    oldLogProbs: perToken('old_logprobs'),
    refLogProbs: perToken('ref_logprobs'),
    rolloutLogProbs: perToken('rollout_logprobs'),
    teacherLogProbs: perToken('teacher_logprobs'),
    tokenWeights: perToken('token_weights'),
    rolloutWeights: perToken('rollout_weights'),
    advantage: members.values.advantage === undefined ? undefined : number(members, 'advantage'),
    mask: maskArray(members, logProbs.length),
    text,
  };
}

/** The key as this line has it. */
function spelt({ values }: Members, key: string): string {
  const other = SPELLINGS[key];
  if (values[other] === undefined) return key;
  if (values[key] !== undefined) throw new UsageError(`"${key}": expected that or "${other}", got both`);
  return other;
}

function parseObject(text: string): Members {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`expected a JSON object, got text that is not JSON (${(error as Error).message})`);
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values))
    throw expected('', 'a JSON object', values);
  return { values: values as Record<string, unknown>, written: (key) => rawMembers(text).get(key) ?? '' };
}

/** The number 7 and the string "7" are one group: a table would show them alike. Ids of 64 bits keep their digits. */
function groupName({ values: { group }, written }: Members): string {
  if (typeof group === 'string') return group;
  if (typeof group === 'number') return Number.isSafeInteger(group) ? String(group) : written('group');
  throw expected('"group"', 'a string or a number', group);
}

function number({ values, written }: Members, key: string): number {
  const value = finite(`"${key}"`, values[key]);
  if (mayBeRounded(value)) requireExact(`"${key}"`, value, written(key));
  return value;
}

function numberArray({ values, written }: Members, key: string): Float64Array {
  const given = values[key];
  if (!Array.isArray(given)) throw expected(`"${key}"`, 'an array of finite numbers', given);
  const numbers = Float64Array.from(given, (value: unknown, t) => finite(`"${key}"[${t}]`, value));
  if (!numbers.some(mayBeRounded)) return numbers;
  const digits = written(key).slice(1, -1).split(',');
  numbers.forEach((value, t) => {
    if (mayBeRounded(value)) requireExact(`"${key}"[${t}]`, value, digits[t].trim());
  });
  return numbers;
}

function optional(members: Members, key: string, length: number): Float64Array | undefined {
  if (members.values[key] === undefined) return undefined;
  const numbers = numberArray(members, key);
  if (numbers.length !== length) throw wrongLength(key, length, numbers.length);
  return numbers;
}

function maskArray({ values: { mask } }: Members, length: number): Uint8Array | undefined {
  if (mask === undefined) return undefined;
  if (!Array.isArray(mask)) throw expected('"mask"', 'an array of 0 and 1', mask);
  if (mask.length !== length) throw wrongLength('mask', length, mask.length);
  return Uint8Array.from(mask, (value: unknown, t) => {
    if (value !== 0 && value !== 1) throw expected(`"mask"[${t}]`, '0 or 1', value);
    return value;
  });
}

/** JSON has no infinities, but it has 1e999. */
function finite(name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw expected(name, 'a finite number', value);
  return value;
}

function mayBeRounded(value: number): boolean {
  return Number.isInteger(value) && !Number.isSafeInteger(value);
}

/** Whole numbers in digits mean each of them. 1e30, as some write for infinity, does not. */
function requireExact(name: string, value: number, digits: string): void {
  if (/^-?\d+$/.test(digits) && BigInt(digits) !== BigInt(value)) {
    throw new UsageError(
      `${name}: expected a number that float64 holds, got ${digits}, which it rounds to ${BigInt(value)}`,
    );
  }
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
