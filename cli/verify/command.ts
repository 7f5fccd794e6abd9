import type { Command } from 'commander';
import { interruptible } from '../../bench/interruptible.js';
import { formatError } from '../../bench/report/figures.js';
import { type BackendName, backends } from '../../lib/index.js';
import { exitCode } from '../errors.js';
import { backendOption, jsonOption, resolveBackend } from '../options.js';
import { renderTable } from '../table.js';
import { checks } from './checks.js';
import { type Finding, findingsOf } from './findings.js';
import { ncclFinding } from './nccl.js';

interface VerifyOptions {
  readonly backend?: BackendName;
  readonly json?: boolean;
  readonly nccl: boolean;
}

const help = `
Runs every op and loss on every backend found here and compares with the float64 reference: the relative error of each,
||out - ref|| / ||ref||, must stay within its tolerance. Exits with 1 if any does not. Hidden states on CUDA need
cuBLASLt, and ranks on all GPUs NCCL: without these, those checks are not run.`;

export function addVerifyCommand(program: Command, signal: AbortSignal): void {
  program
    .command('verify')
    .description('check every backend found on this machine against the reference')
    .addOption(backendOption('check only this backend'))
    .option('--no-nccl', 'leave out the check of ranks on all GPUs')
    .addOption(jsonOption('print one line of JSON instead of the table'))
    .addHelpText('after', help)
    .action((options: VerifyOptions) => runVerify(options, signal));
}

async function runVerify({ backend: wanted, json, nccl }: VerifyOptions, signal: AbortSignal): Promise<void> {
  const found = wanted === undefined ? availableBackends() : [resolveBackend(wanted)];
  const others = found.filter((backend) => backend !== 'reference');
  const findings = interruptible(() => findingsOf(checks(1), others), Infinity, signal);
  const overNccl = nccl && others.includes('cuda') ? await ncclFinding(1) : null;
  if (overNccl) findings.push(overNccl);
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
