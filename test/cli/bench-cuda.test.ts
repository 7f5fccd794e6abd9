// The benchmark on a device: tensors there, its own yardstick beside its rows, the same checks.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { BenchReport } from '../../bench/report/report.js';
import { DEVICES } from '../support/device.js';
import { type CliResult, runCli, temporaryFolder } from './run-cli.js';

const TINY = '--tokens 9 --vocab 301 --sequences 8 --lengths 2-6 --group-size 4 --repeats 2 --warmup 1'.split(' ');

describe.runIf(DEVICES > 0)('bench with a device', () => {
  const file = join(temporaryFolder(), 'report.json');
  let result: CliResult;
  let report: BenchReport;
  beforeAll(async () => {
    result = await runCli(['bench', 'token', 'scores', 'losses', ...TINY, '--dtype', 'f32,f16', '--json', file]);
    report = JSON.parse(readFileSync(file, 'utf8'));
  }, 120_000);

  test('measures it beside the cpu without being asked to', () => {
    expect(result.status, result.stderr).toBe(0);
    expect(report.backends.map(({ name }) => name).toSorted()).toEqual(['cpu', 'cuda']);
    const count = (section: string, of: string) =>
      report.rows.filter(({ backend, ...row }) => row.section === section && backend === of).length;
    for (const side of ['cpu', 'cuda'])
      expect(['token', 'scores', 'losses'].map((section) => count(section, side))).toEqual([18, 19, 12]);
  });

  test('checks every result against float64', () => {
    for (const { by, error } of report.rows) {
      expect(error === null).toBe(by === 'memory');
      expect(error ?? 0).toBeLessThan(4e-3);
    }
  });

  test('holds each side against the memory that it works on', () => {
    for (const on of ['cpu', 'cuda']) {
      const [copy] = report.rows.filter(({ section, op, backend }) => {
        return section === 'memory' && op === 'copy' && (backend === 'cuda') === (on === 'cuda');
      });
      const row = report.rows.find(({ op, backend, dtype }) => {
        return op === 'backward in place' && backend === on && dtype === 'f32';
      });
      if (!row) throw new Error(`no row of ${on}`);
      const share = copy.milliseconds.median / row.milliseconds.median;
      if (on === 'cuda') expect(row.ofBandwidth).toBeCloseTo(share, 12);
      else expect(row.ofBandwidth).toBeLessThanOrEqual(share * (1 + 1e-12)); // or of the streaming copy, if that is faster
    }
    expect(result.stdout).toMatch(/^copy +device memory +f32 /m);
    expect(result.stdout).toMatch(/^ +\d+ % {2}forward f32, of the read bandwidth \(cuda\)$/m);
  });

  test('alone, it needs nothing of the host', async () => {
    const alone = await runCli(['bench', 'token', 'threads', 'sweep', ...TINY, '--backend', 'cuda', '--json', file]);
    expect(alone.status, alone.stderr).toBe(0);
    const { rows } = JSON.parse(readFileSync(file, 'utf8')) as BenchReport;
    expect(new Set(rows.map(({ backend }) => backend))).toEqual(new Set(['cuda']));
    expect(alone.stderr).toContain('threads: not run: it needs the cpu backend\n');
    expect(alone.stderr).toContain('sweep: not run: it compares the cpu backend with the reference\n');
  }, 120_000);
});
