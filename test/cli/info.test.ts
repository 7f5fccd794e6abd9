import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { backends } from '../../lib/index.js';
import { runCli } from './run-cli.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

describe('info', () => {
  test('--json is one line with every fact', async () => {
    const { status, stdout, stderr } = await runCli(['info', '--json']);
    expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 });
    const cpu = backends().find(({ name }) => name === 'cpu');
    const cuda = backends().find(({ name }) => name === 'cuda');
    expect(JSON.parse(stdout)).toEqual({
      version,
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
      backend: cpu?.available ? 'cpu' : 'reference',
      backends: JSON.parse(JSON.stringify(backends())),
      simd: cpu?.simd ?? null,
      threads: cpu?.threads ?? null,
      gpu: cuda?.available ? cuda : null,
    });
  });

  test('says the same to people', async () => {
    const { status, stdout } = await runCli(['info']);
    expect(status).toBe(0);
    for (const label of [
      'rlvr-kernels',
      'node',
      'backend',
      '  cuda',
      '  cpu',
      '  reference',
      'SIMD',
      'threads',
      'GPU',
    ]) {
      expect(stdout).toMatch(new RegExp(`^${label} +\\S`, 'm'));
    }
    expect(stdout).toContain(version);
  });

  test('RLVR_BACKEND decides which backend it names', async () => {
    const { stdout } = await runCli(['info', '--json'], { env: { RLVR_BACKEND: 'reference' } });
    expect(JSON.parse(stdout).backend).toBe('reference');
  });

  test('answers with the reason where the addon does not load', async () => {
    const env = { RLVR_ADDON: '/nonexistent/addon.node' };
    const facts = JSON.parse((await runCli(['info', '--json'], { env })).stdout);
    const cpu = facts.backends.find(({ name }: { name: string }) => name === 'cpu');
    expect(facts).toMatchObject({ backend: 'reference', simd: null, threads: null });
    expect(cpu).toEqual({ name: 'cpu', available: false, reason: expect.stringMatching(/./) });
    const { status, stdout } = await runCli(['info'], { env });
    expect(status).toBe(0);
    expect(stdout).toContain(`not available: ${cpu.reason}`);
  });

  test('answers where the forced backend is absent', async () => {
    const env = { RLVR_ADDON: '/nonexistent/addon.node', RLVR_BACKEND: 'cpu' };
    const { status, stdout } = await runCli(['info', '--json'], { env });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ backend: null, backendError: expect.stringContaining('RLVR_BACKEND') });
  });
});
