// Arguments as JavaScript, for a person to read and run.
import { tag } from '../../../lib/errors.js';
import { isTypedArray } from './arguments.js';

const LONGEST_STRING = 60;
const MOST_ELEMENTS = 200;

function number(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

function array(value: ArrayLike<number | bigint>): string {
  const suffix = tag(value).startsWith('Big') ? 'n' : '';
  const shown = Array.from({ length: Math.min(value.length, MOST_ELEMENTS) }, (_, i) =>
    typeof value[i] === 'number' ? number(value[i]) : `${value[i]}${suffix}`,
  );
  const rest = value.length > MOST_ELEMENTS ? ` /* and ${value.length - MOST_ELEMENTS} more */` : '';
  return `${tag(value)}.of(${shown.join(', ')}${rest})`;
}

/** As source text. Functions and class instances are named. */
export function source(value: unknown): string {
  if (typeof value === 'number') return number(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'string') return JSON.stringify(value.slice(0, LONGEST_STRING));
  if (isTypedArray(value)) return array(value as ArrayLike<number | bigint>);
  if (Array.isArray(value)) return `[${value.map(source).join(', ')}]`;
  if (typeof value === 'function') return `/* function */ ${value.toString().slice(0, LONGEST_STRING)}`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (tag(value) !== 'Object') return `/* ${tag(value)} */`;
  const fields = Object.entries(value).map(([key, part]) => `${key}: ${source(part)}`);
  return `{ ${fields.join(', ')} }`;
}
