// Reports come from files, which may hold anything: what is not a report of this format is refused before it is used.
import * as v from 'valibot';
import { describe } from '../../lib/errors.js';
import { DTYPE_CODES } from '../../lib/kernels.js';
import { sectionTitles } from './grouping.js';
import { type BenchReport, type Comparison, type Row, reportFormat, type Section } from './report.js';

export class InvalidReport extends Error {
  override readonly name = 'InvalidReport';
}

/** JSON has no infinities, but it has 1e999. */
const number = v.pipe(v.number(), v.finite());
const text = v.string();
const benchmark = v.literal('rlvr-kernels bench');
const section = v.picklist(Object.keys(sectionTitles) as Section[]);
const dtype = v.picklist([...(Object.keys(DTYPE_CODES) as (keyof typeof DTYPE_CODES)[]), 'f64']);

const shape = v.object({
  tokens: number,
  vocab: v.optional(number),
  width: v.optional(number),
  sequences: v.optional(number),
  groupSize: v.optional(number),
});

const row: v.GenericSchema<unknown, Row> = v.object({
  section,
  op: text,
  by: text,
  backend: v.nullable(v.picklist(['reference', 'wasm', 'cpu', 'cuda'])),
  threads: v.nullable(number),
  dtype,
  shape,
  milliseconds: v.object({ median: number, p10: number, p90: number, min: number, max: number }),
  rowsPerSecond: number,
  bytes: number,
  gigabytesPerSecond: number,
  ofBandwidth: v.nullable(number),
  flops: v.optional(number),
  ofPeak: v.optional(number),
  peakBytes: v.optional(number),
  error: v.nullable(number),
});

const comparison: v.GenericSchema<unknown, Comparison> = v.object({
  section,
  claim: text,
  shape,
  value: number,
  unit: v.picklist(['times', 'percent']),
  interval: v.optional(v.tuple([number, number])),
});

/** Fields that it does not name are dropped, except those of backends: what a later version adds is no error. */
const schema: v.GenericSchema<unknown, BenchReport> = v.object({
  benchmark,
  format: v.literal(reportFormat),
  date: text,
  machine: v.object({ cpu: text, cores: number, memoryGiB: number, lastLevelCacheMiB: number, platform: text }),
  node: text,
  package: v.object({ name: text, version: text }),
  git: v.object({ commit: v.nullable(text), dirty: v.nullable(v.boolean()) }),
  backends: v.array(
    v.looseObject({
      name: text,
      simd: v.optional(text),
      threads: v.optional(number),
      device: v.optional(text),
    }),
  ),
  load: v.object({ before: number, during: number, after: number }),
  settings: v.object({ command: text, repeats: number, warmup: number, seed: number, quiet: v.boolean() }),
  peers: v.array(v.object({ name: text, version: v.optional(text), reason: v.optional(text) })),
  rows: v.array(row),
  comparisons: v.array(comparison),
});

/** Whether a JSON value says that it is a report, of whatever format. */
export function claimsToBeReport(value: unknown): boolean {
  return v.is(v.object({ benchmark }), value);
}

/** The value, if it is a report of the format that this version writes; else throws an InvalidReport that names the field. */
export function checkReport(value: unknown): BenchReport {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const keys = (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? `[${key}]` : `.${key}`));
  const field = keys.join('').slice(1);
  const got = issue.input === undefined ? 'nothing' : describe(issue.input);
  throw new InvalidReport(`${field === '' ? '' : `${field}: `}expected ${expectedBy(issue)}, got ${got}`);
}

/** The same of a file's text. */
export function parseReport(json: string): BenchReport {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new InvalidReport(`expected JSON, got text that is not (${(error as Error).message})`);
  }
  return checkReport(value);
}

const NAMES: Readonly<Record<string, string>> = {
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  Object: 'an object',
  Array: 'an array',
};

function expectedBy({ type, expected, input }: v.BaseIssue<unknown>): string {
  if (type === 'finite') return 'a finite number';
  if (input === undefined || expected === null) return 'a value'; // of a field that is missing, valibot says the name alone
  return NAMES[expected] ?? expected.replace(/^\(|\)$/g, '').replaceAll(' | ', ' or ');
}
