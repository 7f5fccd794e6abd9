// Liger-Kernel's own tests with this package in the place of what they test: from the outcome of each test to the rows of the document.
import type { LigerResult, LigerRow } from './result.js';
import { optionNames, settingText } from './text.js';

export type LigerOutcome = keyof LigerResult['outcomes'];

/** A function of ours that a test called in the place of Liger's. */
export interface LigerCall {
  /** What the function was given. */
  by: string;
  dtype: LigerRow['dtypes'][number];
  /** By Liger's names. */
  settings: Readonly<Record<string, unknown>>;
  /** Further arguments of Liger's that were not None. */
  more: readonly string[];
  /** Our function, its options, and the fields that its batch has for those arguments. */
  call: string;
  options: Readonly<Record<string, unknown>>;
  fields: readonly string[];
}

/** What liger_tests.py says of a test. */
export interface LigerTest {
  test: string;
  outcome: LigerOutcome;
  reasons: readonly string[];
  calls: readonly LigerCall[];
}

/** Settings that make a row of their own; others, such as the width of a clip, vary within it. */
const TELLING = ['loss_type', 'importance_sampling_level', 'use_bias_correction_kl'];

function settingOf({ settings: { function: name, ...settings }, more }: LigerCall): string {
  const telling = Object.entries(settings).filter(([key, value]) => TELLING.includes(key) && value !== false);
  const parts = [settingText(Object.fromEntries(telling))];
  const any = [...(settings.delta === undefined ? [] : ['delta']), ...more].map((key) => `${key}=…`);
  const text = [...parts, ...any].filter((part) => part !== '').join(', ');
  return name === undefined ? text : `${name}(${text === '' ? '…' : text})`;
}

interface Collected extends Omit<LigerRow, 'call' | 'dtypes'> {
  name: string;
  options: Record<string, unknown>;
  fields: Set<string>;
  dtypes: Set<LigerRow['dtypes'][number]>;
}

function callOf({ name, options, fields }: Collected): string {
  const batch = fields.size === 0 ? 'batch' : `{ ...batch, ${[...fields].join(', ')} }`;
  return Object.keys(options).length === 0 ? `${name}(${batch})` : `${name}(${batch}, ${optionNames(options)})`;
}

/** Rows in the order in which the tests come to them. */
export function ligerRows(tests: readonly LigerTest[]): LigerRow[] {
  const rows = new Map<string, Collected>();
  for (const { outcome, calls } of tests) {
    const touched = new Set<string>();
    for (const call of calls) {
      const setting = settingOf(call);
      const row = rows.get(setting) ?? newRow(call, setting);
      rows.set(setting, row);
      Object.assign(row.options, { ...call.options, ...row.options });
      for (const field of call.fields) row.fields.add(field);
      row.dtypes.add(call.dtype);
      if (!touched.has(`${setting} ${call.by}`)) row.tests[call.by] = (row.tests[call.by] ?? 0) + 1;
      if (!touched.has(setting) && outcome !== 'passed') row.notPassed[outcome] = (row.notPassed[outcome] ?? 0) + 1;
      touched.add(setting).add(`${setting} ${call.by}`);
    }
  }
  return [...rows.values()].map((row) => ({
    ...{ part: row.part, setting: row.setting, call: callOf(row), tests: row.tests },
    ...{ dtypes: [...row.dtypes].sort().reverse(), notPassed: row.notPassed },
  }));
}

function newRow({ settings, call }: LigerCall, setting: string): Collected {
  const part = settings.function === undefined ? 'Losses' : 'Log-probs and means';
  return {
    ...{ part, setting, name: call, options: {}, tests: {}, notPassed: {} },
    ...{ fields: new Set<string>(), dtypes: new Set<LigerRow['dtypes'][number]>() },
  };
}

/** How many tests came to each end, and why those that ran and did not pass. */
export function ligerOutcomes(tests: readonly LigerTest[]): Pick<LigerResult, 'outcomes' | 'reasons'> {
  const outcomes = { passed: 0, theirs: 0, refused: 0, failed: 0, skipped: 0, 'left out': 0 };
  const reasons = new Map<string, LigerResult['reasons'][number]>();
  for (const { test, outcome, reasons: given } of tests) {
    outcomes[outcome]++;
    if (outcome !== 'theirs' && outcome !== 'refused' && outcome !== 'failed') continue;
    for (const reason of given) {
      const found = reasons.get(`${outcome} ${reason}`) ?? { outcome, reason, tests: 0, first: test };
      found.tests++;
      reasons.set(`${outcome} ${reason}`, found);
    }
  }
  return { outcomes, reasons: [...reasons.values()] };
}
