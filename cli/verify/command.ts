import type { Command } from 'commander';
import { interruptible } from '../../bench/interruptible.js';
import { normError } from '../../bench/problems/float64.js';
import { formatError } from '../../bench/report/figures.js';
import { withoutTiny } from '../../lib/backend/tiny.js';
import { type BackendName, backends, RlvrError } from '../../lib/index.js';
import { exitCode } from '../errors.js';
import { backendOption, jsonOption, resolveBackend } from '../options.js';
import { renderTable } from '../table.js';
import { type Check, checks } from './checks.js';

interface VerifyOptions {
  readonly backend?: BackendName;
  readonly json?: boolean;
}

/** One check on one backend. */
interface Finding {
  readonly check: string;
  readonly dtype: string | null;
  readonly backend: BackendName;
  readonly error: number | null; // relative, the worst of the check's arrays; null where it is no number
  readonly tolerance: number;
  readonly pass: boolean | null; // null: not run
  readonly reason?: string; // what was thrown
}

const help = `
Runs every op and loss on every backend found here and compares with the float64 reference: the relative error of each,
||out - ref|| / ||ref||, must stay within its tolerance. Exits with 1 if any does not. Hidden states on CUDA need
cuBLASLt: without it, those checks are not run.`;

export function addVerifyCommand(program: Command, signal: AbortSignal): void {
  program
    .command('verify')
    .description('check every backend found on this machine against the reference')
    .addOption(backendOption('check only this backend'))
    .addOption(jsonOption('print one line of JSON instead of the table'))
    .addHelpText('after', help)
    .action((options: VerifyOptions) => runVerify(options, signal));
}

function runVerify({ backend: wanted, json }: VerifyOptions, signal: AbortSignal): void {
  const found = wanted === undefined ? availableBackends() : [resolveBackend(wanted)];
  const others = found.filter((backend) => backend !== 'reference');
  const findings = interruptible(() => findingsOf(checks(1), others), Infinity, signal);
  const counts = countsOf(findings);
  if (json) process.stdout.write(`${JSON.stringify({ backends: found, ...counts, findings })}\n`);
  else process.stdout.write(renderFindings(findings, counts));
  if (counts.failed > 0) process.exitCode = exitCode.failure;
}

const countsOf = (findings: readonly Finding[]) => ({
  passed: findings.filter(({ pass }) => pass === true).length,
  failed: findings.filter(({ pass }) => pass === false).length,
  notRun: findings.filter(({ pass }) => pass === null).length,
});

function availableBackends(): BackendName[] {
  resolveBackend(undefined); // a variable that keeps one away is an error here too
  return backends()
    .filter(({ available }) => available)
    .map(({ name }) => name);
}

function findingsOf(all: readonly Check[], others: readonly BackendName[]): Finding[] {
  return others.flatMap((backend) =>
    all.filter(({ only }) => only === undefined || only === backend).map((check) => examine(check, backend)),
  );
}

function examine(check: Check, backend: BackendName): Finding {
  const { name, dtype, tolerance } = check;
  const finding = { check: name, dtype, backend, tolerance };
  try {
    const actual = withoutTiny(() => check.run(backend));
    const expected = check.expected?.() ?? check.run('reference');
    const errors = Object.keys(expected).map((key) => normError(actual[key], expected[key]));
    const error = Math.max(0, ...errors); // NaN if any is
    return { ...finding, error: Number.isFinite(error) ? error : null, pass: error <= tolerance };
  } catch (error) {
    const pass = check.needsLibrary && error instanceof RlvrError && error.code === 'ERR_BACKEND' ? null : false;
    return { ...finding, error: null, pass, reason: error instanceof Error ? error.message : String(error) };
  }
}

const COLUMNS = [
  { header: 'check', align: 'left' },
  { header: 'dtype', align: 'left' },
  { header: 'backend', align: 'left' },
  { header: 'worst error', align: 'right' },
  { header: 'tolerance', align: 'right' },
  { header: '', align: 'left' },
] as const;

function renderFindings(findings: readonly Finding[], counts: ReturnType<typeof countsOf>): string {
  if (findings.length === 0) return 'only the reference backend is here: nothing to compare with it\n';
  const rows = findings.map(({ check, dtype, backend, error, tolerance, pass }) => [
    check,
    dtype ?? 'f64',
    backend,
    error !== null ? formatError(error) : pass === null ? '' : 'no number',
    tolerance.toExponential(0),
    pass === null ? 'not run' : pass ? 'pass' : 'FAIL',
  ]);
  const reasons = findings.flatMap(({ check, backend, reason }) =>
    reason ? [`${check} on ${backend}: ${reason}\n`] : [],
  );
  const { passed, failed, notRun } = counts;
  const run = passed + failed;
  const verdict = failed === 0 ? `all ${run} checks passed` : `${failed} of ${run} checks FAILED`;
  const rest = notRun === 0 ? '' : `, ${notRun} not run`;
  return `${renderTable(COLUMNS, rows)}\n\n${reasons.join('')}${verdict}${rest}\n`;
}
