// How a trainer's settings are written here.
import { badArgument, describe } from '../errors.js';
import type { LossName } from '../losses/list.js';
import { takeOptions } from '../options.js';
import { finiteNumber, type NumberRange, objectArgument, oneOf } from '../validate.js';

/** A loss of this package that stands for a trainer's settings. */
export interface LossTranslation {
  /** The function's name, without `Sync`. */
  loss: LossName;
  /** Its options. */
  options: Readonly<Record<string, unknown>>;
  /** The option `normalizer` where the default is not theirs: so many times a number of the micro-batch. */
  normalizer?: {
    /** The number that is meant. */
    of: 'tokens' | 'sequences' | 'sequencesWithTokens';
    /** What it is multiplied by. */
    times: number;
  };
  /** False: the batch must have no `oldLogProbs`. */
  old?: false;
  /** Fields that the batch needs beside those of every batch; `refLogProbs: oldLogProbs` are those of the policy that sampled. */
  fields: readonly ('refLogProbs' | 'refLogProbs: oldLogProbs' | 'rolloutLogProbs')[];
  /** Why the two agree to 1e-7 only. */
  nearly?: string;
  /** Settings that have no counterpart, each with the reason: `name: reason`. */
  without: readonly string[];
}

export type Options = LossTranslation['options'];

/** Values, less those that are the usual ones. */
export function unless<T>(usual: Readonly<Record<string, T>>, values: Readonly<Record<string, T>>): Options {
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== usual[name]));
}

/** `reasons`: by the setting's name, why it has no counterpart; false where it was not set. */
export function withReasons(reasons: Readonly<Record<string, string | false>>): string[] {
  return Object.entries(reasons).flatMap(([name, reason]) => (reason === false ? [] : [`${name}: ${reason}`]));
}

/** Throws if the value of a setting is none that it may have. */
export type Rule = (name: string, value: unknown) => void;

export const word =
  (...words: readonly string[]): Rule =>
  (name, value) =>
    oneOf(name, value, words);

export const number =
  (range: NumberRange = {}): Rule =>
  (name, value) =>
    finiteNumber(name, value, range);

export const orNull =
  (rule: Rule): Rule =>
  (name, value) => {
    if (value !== null) rule(name, value);
  };

export const flag: Rule = (name, value) => {
  if (typeof value !== 'boolean') throw badArgument('ERR_RANGE', name, 'true or false', describe(value));
};

/** The settings that are there, checked. */
export function settings<T extends object>(of: string, config: T, rules: Readonly<Record<keyof T, Rule>>): T {
  const names = Object.fromEntries(Object.keys(rules).map((name) => [name, true as const]));
  const taken = takeOptions(of, objectArgument('config', config), names);
  for (const [name, value] of Object.entries(taken)) if (value !== undefined) rules[name as keyof T](name, value);
  return taken as T;
}
