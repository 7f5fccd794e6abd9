// Choosing a backend: by option, by RLVR_BACKEND, and what is said of those that are absent.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { backends, groupInfoNCE, groupInfoNCESync, RlvrError } from '../../lib/index.js';
import { failureOf, rlvrError } from '../support/errors.js';
import { childJson, NO_ADDON, runChild } from './child.js';

const inputs = {
  scores: Float64Array.of(-1, -2),
  rewards: Float32Array.of(1, 0),
  cuGroups: Int32Array.of(0, 2),
};

test('backends() lists each with a reason or without', () => {
  const infos = backends();
  expect(infos.map(({ name }) => name)).toEqual(['cuda', 'cpu', 'wasm', 'reference']);
  for (const { available, reason } of infos) expect(typeof reason).toBe(available ? 'undefined' : 'string');
  expect(infos[3]).toEqual({ name: 'reference', available: true });
});

test.each(['gpu', 'CPU', '', null, 3, {}, Symbol('s'), ['cpu']])('backend %o is refused', async (backend) => {
  const options = { backend: backend as never };
  const refusal = rlvrError('ERR_BACKEND', /^backend: expected .*'cuda'.*'cpu'.*'wasm'.*'reference'.*, got /);
  expect(() => groupInfoNCESync(inputs, options)).toThrow(refusal);
  await expect(groupInfoNCE(inputs, options)).rejects.toEqual(refusal);
});

test('a known backend that is absent: ERR_BACKEND with the reason of backends()', async () => {
  for (const { name, reason } of backends().filter(({ available }) => !available)) {
    const error = await failureOf(() => groupInfoNCE(inputs, { backend: name }));
    expect(error).toBeInstanceOf(RlvrError);
    expect(error).toEqual(rlvrError('ERR_BACKEND', `'${name}': ${reason}`));
  }
});

const SMALL = `{
  scores: Float64Array.of(-1, -2), rewards: Float32Array.of(1, 0), cuGroups: Int32Array.of(0, 2) }`;

interface Answer {
  infos: { name: string; available: boolean; reason?: string }[];
  loss?: number;
  code?: string;
  message?: string;
}

// The backends differ in the last bits of an entropy: enough to tell which one ran.
const ANSWER = (options: string) => `
  const infos = rlvr.backends();
  const logits = Float32Array.from({ length: 3000 }, (_, i) => Math.sin(i) * 3);
  const run = (options) => rlvr.tokenLogProbsSync({ logits, targets: Int32Array.of(5) }, { entropy: true, ...options }).entropy[0];
  try { console.log(JSON.stringify({ infos, loss: run(${options}) })); }
  catch ({ code, message }) { console.log(JSON.stringify({ infos, code, message })); }`;

const answer = (env: Record<string, string>, options = '{}') => childJson<Answer>(ANSWER(options), { env });

test('RLVR_BACKEND chooses, the option comes first', async () => {
  const reference = await answer({}, `{ backend: 'reference' }`);
  const cpu = await answer({}, `{ backend: 'cpu' }`);
  expect(reference.loss).not.toBe(cpu.loss);
  expect((await answer({})).loss).toBe(cpu.loss);
  expect((await answer({ RLVR_BACKEND: '' })).loss).toBe(cpu.loss);
  expect((await answer({ RLVR_BACKEND: 'reference' })).loss).toBe(reference.loss);
  expect((await answer({ RLVR_BACKEND: 'cpu' })).loss).toBe(cpu.loss);
  expect((await answer({ RLVR_BACKEND: 'reference' }, `{ backend: 'cpu' }`)).loss).toBe(cpu.loss);
  expect((await answer({ RLVR_BACKEND: 'nonsense' }, `{ backend: 'cpu' }`)).loss).toBe(cpu.loss);
});

test.each([
  ['nonsense', /^RLVR_BACKEND: expected .*'cpu'.*, got "nonsense"$/],
  ['cuda', /^RLVR_BACKEND: expected an available backend, got 'cuda': ./],
])('RLVR_BACKEND=%s: backends() answers, ops say why not', async (name, message) => {
  const result = await answer({ RLVR_BACKEND: name });
  expect(result.infos.length).toBe(4);
  expect(result).toMatchObject({ code: 'ERR_BACKEND', message: expect.stringMatching(message) });
});

/** What stands in for the addon. */
const WITHOUT_ADDON = backends().some(({ name, available }) => name === 'wasm' && available) ? 'wasm' : 'reference';

test(`no addon: backends() says why, ops run on ${WITHOUT_ADDON}`, async () => {
  const result = await answer(NO_ADDON);
  expect(result.infos[1]).toMatchObject({ name: 'cpu', available: false, reason: expect.stringMatching(/^no addon/) });
  expect(result.loss).toBe((await answer({}, `{ backend: '${WITHOUT_ADDON}' }`)).loss);
  const forced = await answer(NO_ADDON, `{ backend: 'cpu' }`);
  expect(forced).toMatchObject({ code: 'ERR_BACKEND', message: expect.stringContaining("'cpu': ") });
});

test('no addon: one warning says so, and RLVR_BACKEND means it', async () => {
  const script = `
    const run = (options) => rlvr.groupInfoNCESync(${SMALL}, options);
    run(); run(); run({ backend: 'reference' });`;
  const { stderr } = await runChild(script, { env: NO_ADDON });
  const [code, how] = {
    wasm: ['RLVR_WASM', 'in WebAssembly, several times slower'],
    reference: ['RLVR_REFERENCE', 'in plain TypeScript, tens of times slower'],
  }[WITHOUT_ADDON];
  expect(stderr.split(`[${code}]`)).toHaveLength(2);
  expect(stderr).toMatch(new RegExp(`Warning: rlvr-kernels runs ${how} than with its addon: no (prebuilt )?addon`));
  expect((await runChild(script, { env: { ...NO_ADDON, RLVR_BACKEND: WITHOUT_ADDON } })).stderr).toBe('');
  expect((await runChild(`rlvr.groupInfoNCESync(${SMALL}, { backend: 'reference' })`, { env: NO_ADDON })).stderr).toBe(
    '',
  );
});

test('neither an addon nor WebAssembly: the reference, and a warning with both reasons', async () => {
  const nodeOptions = ['--jitless']; // which has no WebAssembly
  const { stderr } = await runChild(`rlvr.groupInfoNCESync(${SMALL})`, { env: NO_ADDON, nodeOptions });
  expect(stderr).toMatch(/RLVR_REFERENCE.*plain TypeScript.*no (prebuilt )?addon.*no WebAssembly with SIMD here/);
});

test('RLVR_WASM_SIMD of another name is refused where wasm would run, and nothing takes its place', async () => {
  const message = expect.stringMatching(/^RLVR_WASM_SIMD: expected 'simd128' or 'relaxed', got "avx2"$/);
  const result = await answer({ ...NO_ADDON, RLVR_WASM_SIMD: 'avx2' });
  expect(result).toMatchObject({ code: 'ERR_BACKEND', message });
  expect(result.infos[2]).toEqual({ name: 'wasm', available: false, reason: message });
});

test('code that was taken out of the package, as bundlers do: the warning says what to tell them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-bundled-'));
  try {
    cpSync(new URL('../../dist/lib', import.meta.url), join(folder, 'lib'), { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    writeFileSync(join(folder, 'run.js'), `import * as rlvr from './lib/index.js'; rlvr.groupInfoNCESync(${SMALL});`);
    const { status, stderr } = spawnSync(process.execPath, ['run.js'], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, RLVR_ADDON: '', RLVR_BACKEND: '' },
    });
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(
      /RLVR_REFERENCE.*: this code is no longer in its package's folder.*esbuild --external:rlvr-kernels/,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** A variable asks for what cannot be had: cpu says so, and ops refuse instead of running on the reference. */
async function expectRefused(env: Record<string, string>, reason: RegExp | string) {
  const result = await answer(env);
  const message = typeof reason === 'string' ? reason : expect.stringMatching(reason);
  expect(result).toEqual({ infos: expect.any(Array), code: 'ERR_BACKEND', message });
  expect(result.infos[1]).toEqual({ name: 'cpu', available: false, reason: result.message });
  expect((await answer(env, `{ backend: 'reference' }`)).loss).toBeDefined();
}

test.each(['abc', '-3', '0', '1e99', '2.5', ' 4', '0x4', 'Infinity', '1025'])('RLVR_THREADS=%s', async (value) => {
  const expected = 'a whole number from 1 to 1024';
  await expectRefused({ RLVR_THREADS: value }, `RLVR_THREADS: expected ${expected}, got ${JSON.stringify(value)}`);
});

test('RLVR_THREADS within its bounds, and empty', async () => {
  const threads = async (env: Record<string, string>) =>
    (await childJson<{ threads: number }[]>('console.log(JSON.stringify(rlvr.backends()))', { env }))[1].threads;
  expect(await threads({ RLVR_THREADS: '1024' })).toBe(1024);
  expect(await threads({ RLVR_THREADS: '' })).toBe(await threads({}));
});

test.each([
  ['RLVR_SIMD', 'fast', /^RLVR_SIMD: expected ('avx2' or )?'portable', in an addon that has it .*, got "fast"$/],
  ['RLVR_SIMD', 'sse2', /^RLVR_SIMD: expected .*, got "sse2"$/],
  ['RLVR_TINY_NATIVE', 'yes', /^RLVR_TINY_NATIVE: expected 0 or 1, got "yes"$/],
  [
    'RLVR_ADDON',
    '/nowhere/x.node',
    /^RLVR_ADDON: expected an addon of rlvr-kernels \S+, got "\/nowhere\/x.node": ENOENT/,
  ],
  ['RLVR_ADDON', new URL(import.meta.url).pathname, /^RLVR_ADDON: expected an addon of .*, got ".*": ./],
  ['RLVR_ADDON', 'node_modules/node-gyp-build/index.js', /^RLVR_ADDON: .*index.js is not an addon of rlvr-kernels$/],
])('%s=%s', async (name, value, reason) => expectRefused({ [name]: value }, reason));

// Modules of other versions, in the addon's place: what tells them apart is read before any kernel is called.
test.each([
  [
    'of an older version',
    `version: '0.0.1',`,
    /old\.cjs is the addon of version 0\.0\.1, this is version \d+\.\d+\.\d+/,
  ],
  ['from before versions', '', /old\.cjs is the addon of a version that does not say its number, this is version \d/],
])('an addon %s', async (_name, version, reason) => {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-'));
  const path = join(folder, 'old.cjs');
  writeFileSync(path, `module.exports = { ${version} cpuInfo: () => ({ simd: 'avx2', threads: 1 }), cuda: {} };`);
  const result = await answer({ RLVR_ADDON: path });
  rmSync(folder, { recursive: true });
  expect(result.infos[1]).toMatchObject({ available: false, reason: expect.stringMatching(reason) });
  expect(result.infos[0]).toMatchObject({ available: false, reason: expect.stringMatching(reason) });
  expect(result.code).toBe('ERR_BACKEND');
});
