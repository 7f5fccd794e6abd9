import { InvalidArgumentError, Option } from 'commander';
import type { BackendName } from '../lib/index.js';
import { selectBackend } from '../lib/run/select.js';
import { UsageError } from './errors.js';

interface NumberBounds {
  readonly above?: number; // exclusive
  readonly min?: number;
  readonly max?: number;
  readonly integer?: boolean;
}

/** A parser for one numeric option; what is outside the bounds is wrong usage. */
export function numberWithin({ above, min, max, integer = false }: NumberBounds): (text: string) => number {
  const bounds = [
    above === undefined ? '' : `above ${above}`,
    min === undefined ? '' : `at least ${min}`,
    max === undefined ? '' : `at most ${max}`,
  ].filter((bound) => bound !== '');
  const expected = [integer ? 'a whole number' : 'a number', bounds.join(' and ')].join(' ').trim();
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    const fits =
      Number.isFinite(value) &&
      (!integer || Number.isSafeInteger(value)) &&
      value > (above ?? -Infinity) &&
      value >= (min ?? -Infinity) &&
      value <= (max ?? Infinity);
    if (!fits) throw new InvalidArgumentError(`Expected ${expected}, got ${JSON.stringify(text)}.`);
    return value;
  };
}

export const backendNames: readonly BackendName[] = ['reference', 'wasm', 'cpu', 'cuda'];

export function backendOption(
  description = 'force a backend (default: RLVR_BACKEND, else the best that loaded)',
): Option {
  return new Option('--backend <name>', description).choices(backendNames);
}

export function jsonOption(description = 'print one line of JSON'): Option {
  return new Option('--json', description);
}

/** The backend that will run, so that output can name it. Fails early if the one asked for is not there. */
export function resolveBackend(wanted: BackendName | undefined): BackendName {
  const fromEnvironment = process.env.RLVR_BACKEND;
  if (wanted === undefined && fromEnvironment && !backendNames.some((name) => name === fromEnvironment)) {
    throw new UsageError(`RLVR_BACKEND: expected ${backendNames.join(', ')}, got ${JSON.stringify(fromEnvironment)}`);
  }
  return selectBackend(wanted).name;
}
