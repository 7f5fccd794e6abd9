import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { backends } from '../../lib/index.js';
import { runCli, temporaryFolder } from './run-cli.js';

const has = (backend: string) => backends().some(({ name, available }) => name === backend && available);
const cpu = has('cpu');
const cuda = has('cuda');

describe.runIf(cpu)('verify', () => {
  test('every op, loss and dtype passes on every backend found', async () => {
    const { status, stdout, stderr } = await runCli(['verify', '--json']);
    expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 });
    const { backends: found, passed, failed, notRun, findings } = JSON.parse(stdout);
    expect(found).toContain('cpu');
    expect(failed).toBe(0);
    expect(passed + notRun).toBe(findings.length);
    expect(notRun).toBeLessThanOrEqual(4); // of hidden states, on a GPU without cuBLASLt; of ranks, without NCCL
    expect(passed).toBeGreaterThan(40);
    for (const dtype of ['f32', 'bf16', 'f16', null]) {
      expect(findings.some((finding: { dtype: string }) => finding.dtype === dtype)).toBe(true);
    }
  });

  test('says so in words and a table within 100 columns', async () => {
    const { status, stdout } = await runCli(['verify', '--backend', 'cpu']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/all \d+ checks passed\n$/);
    expect(stdout).toMatch(/^tokenLogProbs +f32 +cpu .* pass$/m);
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
  });

  test('compares nothing where there is nothing but the reference', async () => {
    const { status, stdout } = await runCli(['verify', '--backend', 'reference']);
    expect(status).toBe(0);
    expect(stdout).toContain('nothing to compare');
  });
});

describe.runIf(cuda)('verify on a GPU', () => {
  test('runs all but hidden states without cuBLASLt', async () => {
    const env = { RLVR_CUBLASLT: '/nonexistent/libcublasLt.so' };
    const { status, stdout } = await runCli(['verify', '--backend', 'cuda', '--no-nccl'], { env });
    expect(status).toBe(0);
    expect(stdout.match(/^conspo, hidden states .* not run$/gm)).toHaveLength(3);
    expect(stdout).toContain(env.RLVR_CUBLASLT);
    expect(stdout).toMatch(/all \d+ checks passed, 3 not run\n$/);
  });
});

describe.runIf(cpu)('verify on an addon that is wrong', () => {
  const folder = temporaryFolder();

  /** Runs verify with the real addon behind a module that spoils one of its kernels. */
  async function verifyWith(spoil: string) {
    const real = process.env.RLVR_ADDON ?? new URL('../../build/Release/rlvr_kernels.node', import.meta.url).pathname;
    const path = join(folder, 'spoilt.cjs');
    writeFileSync(path, `const addon = { ...require(${JSON.stringify(real)}) };\n${spoil}\nmodule.exports = addon;\n`);
    return runCli(['verify', '--backend', 'cpu', '--json'], { env: { RLVR_ADDON: path } });
  }

  test.each([
    ['a value off by 1e-5 of it', 'a.scores[0] *= 1 + 1e-5'],
    ['a NaN', 'a.scores[1] = NaN'],
    ['an error', "throw new Error('no such kernel')"],
  ])('fails on %s, and only there', async (_, spoiling) => {
    const { status, stdout } = await verifyWith(
      `const real = addon.sequenceLogProbsForward;\naddon.sequenceLogProbsForward = (a) => { real(a); ${spoiling}; };`,
    );
    expect(status).toBe(1);
    const { findings } = JSON.parse(stdout);
    const failed = findings.filter(({ pass }: { pass: boolean }) => !pass).map(({ check }: { check: string }) => check);
    expect(failed).toContain('sequenceLogProbs');
    expect(failed).not.toContain('groupInfoNCE');
    expect(failed).not.toContain('tokenLogProbs');
  });
});
