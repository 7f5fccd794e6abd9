import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { backends } from '../../lib/index.js';
import { NO_ADDON } from '../boundary/child.js';
import { runCli } from './run-cli.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

describe('info', () => {
  test('--json is one line with every fact', async () => {
    const { status, stdout, stderr } = await runCli(['info', '--json']);
    expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 });
    const cpu = backends().find(({ name }) => name === 'cpu');
    const cuda = backends().find(({ name }) => name === 'cuda');
    const wasm = backends().find(({ name }) => name === 'wasm');
    expect(JSON.parse(stdout)).toEqual({
      version,
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
      backend: [cpu, wasm].find((one) => one?.available)?.name ?? 'reference',
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
      '  wasm',
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

  test('answers with the reason where there is no addon', async () => {
    const env = NO_ADDON;
    const facts = JSON.parse((await runCli(['info', '--json'], { env })).stdout);
    const cpu = facts.backends.find(({ name }: { name: string }) => name === 'cpu');
    const wasm = backends().some(({ name, available }) => name === 'wasm' && available);
    expect(facts).toMatchObject({ backend: wasm ? 'wasm' : 'reference', simd: null, threads: null });
    expect(cpu).toEqual({ name: 'cpu', available: false, reason: expect.stringMatching(/./) });
    const { status, stdout } = await runCli(['info'], { env });
    expect(status).toBe(0);
    expect(stdout).toContain(`not available: ${cpu.reason}`);
  });

  test('answers where the forced backend is absent', async () => {
    const env = { ...NO_ADDON, RLVR_BACKEND: 'cpu' };
    const { status, stdout } = await runCli(['info', '--json'], { env });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ backend: null, backendError: expect.stringContaining('RLVR_BACKEND') });
  });

  test.each([{ RLVR_THREADS: 'many' }, { RLVR_SIMD: 'mmx' }, { RLVR_ADDON: '/nonexistent/addon.node' }])(
    'answers where %j is nonsense',
    async (env) => {
      const [name] = Object.keys(env);
      const { status, stdout } = await runCli(['info', '--json'], { env });
      expect(status).toBe(0);
      const reason = expect.stringMatching(new RegExp(`^${name}: expected `));
      const cpu = { name: 'cpu', available: false, reason };
      expect(JSON.parse(stdout)).toMatchObject({ backend: null, backendError: reason, backends: [{}, cpu, {}, {}] });
    },
  );
});

test.each([['verify'], ['bench', 'groups'], ['demo', '--steps', '1']])(
  '%s does not run on the reference because RLVR_THREADS is nonsense',
  async (...args) => {
    const { status, stdout, stderr } = await runCli(args, { env: { RLVR_THREADS: 'many' } });
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: '',
      stderr: 'error: RLVR_THREADS: expected a whole number from 1 to 1024, got "many"\n',
    });
  },
);
