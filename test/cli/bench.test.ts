import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { BenchReport, Row } from '../../bench/report/report.js';
import { backends } from '../../lib/index.js';
import { type CliResult, runCli, startCli, temporaryFolder } from './run-cli.js';

const cpu = backends().some(({ name, available }) => name === 'cpu' && available);
const folder = temporaryFolder();
const file = (name: string) => join(folder, name);

/** So small that a run takes a second or two; no test looks at times. */
const TINY =
  '--tokens 9 --vocab 301 --width 24 --sequences 24 --lengths 2-6 --group-size 4 --repeats 2 --warmup 1'.split(' ');

const widest = (text: string) => Math.max(...text.split('\n').map((line) => [...line].length));
const readJson = (name: string): BenchReport => JSON.parse(readFileSync(file(name), 'utf8'));

function expectRow({ op, milliseconds, rowsPerSecond, bytes, gigabytesPerSecond, ofBandwidth, error, ...row }: Row) {
  const linear = row.section === 'linear';
  const yardstick = row.by === 'memory' || row.by === 'arithmetic';
  const { p10, median, p90, min, max } = milliseconds;
  expect([min, p10, median, p90, max].toSorted((a, b) => a - b)).toEqual([min, p10, median, p90, max]);
  expect(min).toBeGreaterThan(0);
  if (row.by !== 'arithmetic') {
    expect(bytes).toBeGreaterThan(0);
    expect(gigabytesPerSecond / (bytes / (median / 1e3) / 1e9)).toBeCloseTo(1, 9);
  }
  expect(rowsPerSecond).toBeCloseTo(row.shape.tokens / (median / 1e3), 0);
  expect(ofBandwidth === null).toBe(row.dtype === 'f64' || linear || op.endsWith(' kept'));
  expect(row.ofPeak !== undefined && row.ofPeak > 0).toBe(linear);
  expect((row.peakBytes ?? 0) > 0).toBe(linear && !yardstick && !op.startsWith('GEMM') && process.platform === 'linux');
  expect(error === null).toBe(yardstick);
  expect(error ?? 0).toBeLessThan(4e-3);
  expect(op.length).toBeLessThanOrEqual(22);
}

describe.runIf(cpu)('bench on the cpu backend', () => {
  let result: CliResult;
  let report: BenchReport;
  beforeAll(async () => {
    const outputs = ['--json', file('first.json'), '--markdown', file('first.md')];
    result = await runCli([
      'bench',
      'token',
      'scores',
      'objectives',
      'losses',
      'linear',
      'groups',
      '--backend',
      'cpu',
      ...TINY,
      ...outputs,
    ]);
    report = readJson('first.json');
  });

  test('ends well, with progress on stderr', () => {
    expect(result.status, result.stderr).toBe(0);
    expect(result.stderr).toContain('token level, T=9, V=301: making and checking data\n');
    expect(result.stderr).toContain('token level, T=9, V=301: 100 % of the rounds\n');
  });

  test('prints tables within 100 columns', () => {
    expect(widest(result.stdout)).toBeLessThanOrEqual(100);
    expect(result.stdout).toMatch(/^A step of your batch: \S+ ms, \S+ tokens\/s\n\(conspo from f32 logits /m);
    expect(result.stdout).toMatch(/^op +by +dtype +ms +p10 p90 +rows\/s +GB\/s +of mem +error$/m);
    expect(result.stdout).toMatch(/^backward second array +cpu +bf16 /m);
    expect(result.stdout).toMatch(/^N=24, groups of 2 +cpu +f64 /m);
    expect(result.stdout).toMatch(/^ +\d+ % {2}forward f32, of the read bandwidth$/m);
    expect(result.stdout).toMatch(/ × {2}conspo f32, time over its forward and backward$/m);
    expect(result.stdout).toMatch(/^op +by +dtype +ms +p10 p90 +GFLOP\/s +of peak +MiB +error$/m);
    expect(result.stdout).toMatch(/^multiply-add +arithmetic +f32 .* 100 % +– +–$/m);
    expect(result.stdout).toMatch(/ × {2}forward bf16, time over its product alone$/m);
  });

  test('writes a report whose rows are complete and consistent', () => {
    expect(report).toMatchObject({ benchmark: 'rlvr-kernels bench', format: 1, peers: [], node: process.version });
    expect(report.package.name).toBe('rlvr-kernels');
    expect(report.backends.map(({ name }) => name)).toEqual(['cpu']);
    expect(report.settings).toMatchObject({ repeats: 2, warmup: 1, seed: 1, quiet: false });
    expect(report.settings.command).toMatch(/^rlvr-kernels bench token .* --lengths 2-6/);
    expect(report.settings.command).not.toContain(folder);
    for (const row of report.rows) expectRow(row);
    for (const { value } of report.comparisons) expect(value).toBeGreaterThan(0);
  });

  test.each([
    ['token', 9 * 3 + 1], // the last in plain TypeScript
    ['scores', 19],
    ['objectives', 6],
    ['losses', 6],
    ['linear', 1 + 3 + 7 * 2 + 3 * 2], // the last at other numbers of tokens
    ['groups', 8], // group sizes 2, 4, 8, 16 at N = 24 and 192
  ])('section %s has %d rows', (section, count) => {
    expect(report.rows.filter((row) => row.section === section)).toHaveLength(count);
  });

  test('the yardsticks are measured in the rounds of each shape', () => {
    const memory = report.rows.filter(({ section }) => section === 'memory');
    expect(memory.map(({ op }) => op)).toEqual(expect.arrayContaining(['read', 'copy']));
    expect(Math.max(...memory.map(({ ofBandwidth }) => ofBandwidth ?? 0))).toBeCloseTo(1, 9);
  });

  test('writes Markdown with the same rows', () => {
    const markdown = readFileSync(file('first.md'), 'utf8');
    expect(markdown).toMatch(/^# rlvr-kernels /);
    expect(markdown).toContain('### T=9, V=301\n\n| op | by | dtype |');
    const lines = markdown.split('\n').filter((line) => /^\| .* \| (cpu|memory|arithmetic|TypeScript) \|/.test(line));
    expect(lines).toHaveLength(report.rows.length);
  });

  test('--compare shows each row that both have', async () => {
    const args = ['bench', 'token', 'groups', ...TINY, '--dtype', 'bfloat16', '--compare', file('first.json')];
    const { status, stdout, stderr } = await runCli(args);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain(`against ${report.date}`);
    expect(stdout).toMatch(/^op +by +dtype +ms before +ms now +speed +of memory$/m);
    expect(stdout).toMatch(/^forward +cpu +bf16 .* × +\d+ % → \d+ %$/m);
    expect(stdout).toMatch(/^groupInfoNCE +N=192, groups of 16 +cpu +f64 .* × +–$/m);
    expect(stdout).toMatch(/\d of \d+ rows have no counterpart there$/m); // yardsticks of bf16 arrays
    expect(stdout).not.toContain('not the same machine');
    expect(widest(stdout)).toBeLessThanOrEqual(100);
  });

  test('--compare says when the machine differs', async () => {
    const machine = { ...report.machine, cpu: 'another' };
    writeFileSync(file('other.json'), JSON.stringify({ ...report, machine }));
    const args = ['bench', 'objectives', ...TINY, '--compare', file('other.json')];
    expect((await runCli(args)).stdout).toContain('not the same machine or setting: cpu was another, now ');
  });

  test('--threads', async () => {
    const { stdout } = await runCli(['bench', 'objectives', ...TINY, '--threads', '1', '--json', '-']);
    const { backends: used, rows }: BenchReport = JSON.parse(stdout); // and nothing but JSON there
    expect(used[0]).toMatchObject({ name: 'cpu', threads: 1 });
    expect(rows[0].threads).toBe(1);
  });
});

test('the reference backend passes the same checks', async () => {
  const args = ['bench', 'token', 'scores', 'objectives', 'losses', 'linear', ...TINY, '--backend', 'reference'];
  const losses = ['--loss', 'dapo,bnpo,drGrpo,gspo', '--loss', 'gmpo,cispo,sapo,disco'];
  const { status, stdout, stderr } = await runCli([...args, ...losses, '--json', '-']);
  expect(status, stderr).toBe(0);
  const { rows, backends: used }: BenchReport = JSON.parse(stdout);
  expect(used).toEqual([{ name: 'reference' }]);
  expect(rows.filter(({ by }) => by === 'rlvr-kernels').every(({ backend }) => backend === 'reference')).toBe(true);
  expect(rows.filter(({ section }) => section === 'losses')).toHaveLength(3 + 8 + 3); // three of them deferred, too
  expect(rows.filter(({ section, backend }) => section === 'linear' && backend)).toHaveLength(7 * 2 + 3);
});

describe.runIf(cpu)('bench on another addon', () => {
  /** The real addon behind a module that changes it. */
  function addonWith(name: string, change: string): NodeJS.ProcessEnv {
    const real = process.env.RLVR_ADDON ?? new URL('../../build/Release/rlvr_kernels.node', import.meta.url).pathname;
    const code = `const addon = { ...require(${JSON.stringify(real)}) };\n${change}\nmodule.exports = addon;\n`;
    writeFileSync(file(name), code);
    return { RLVR_ADDON: file(name) };
  }

  test.each([
    { what: 'a value', kernel: 'tokenLogProbsForward', wrong: 'a.logProbs[0] *= 1 + 1e-5', named: 'forward f32, cpu' },
    { what: 'a NaN', kernel: 'tokenLogProbsForward', wrong: 'a.logProbs[3] = NaN', named: 'logProb: not finite' },
    {
      what: 'a gradient',
      kernel: 'tokenLogProbsBackward',
      wrong: 'a.gradLogits[1] += 1',
      named: 'backward in place f32, cpu',
    },
    {
      what: "a weight's gradient",
      section: 'linear',
      kernel: 'linearLogProbsBackward',
      wrong: 'if (a.gradWeight) a.gradWeight.data[0] += 1e-3',
      named: 'forward + backward f32, cpu',
    },
    {
      what: 'a matrix product',
      section: 'linear',
      kernel: 'matrixProduct',
      wrong: 'a.out[0] += 1e-3',
      named: 'GEMM hidden.weightT',
    },
    {
      what: 'only a later call',
      kernel: 'tokenLogProbsForward',
      wrong: 'n++ > 5 && (a.logProbs[0] = 1)',
      named: 'f32',
    },
  ])('that gets $what wrong: exit code 1, no figures, no file', async ({ section = 'token', kernel, wrong, named }) => {
    const change = `let n = 0; const real = addon.${kernel}; addon.${kernel} = (a) => { real(a); ${wrong}; };`;
    const env = addonWith('wrong.cjs', change);
    const json = file('wrong.json');
    const args = ['bench', section, ...TINY, '--dtype', 'f32', '--json', json];
    const { status, stdout, stderr } = await runCli(args, { env });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^error: .*(float64|not finite)/m);
    expect(stderr).toContain(named);
    expect(existsSync(json)).toBe(false);
  });

  test('threads: a row for each number of them, and no limit left behind', async () => {
    const env = addonWith(
      'threads.cjs',
      'addon.limitThreads = ({ threads }) => process.stderr.write("<" + threads + ">");',
    );
    const args = ['bench', 'threads', ...TINY, '--dtype', 'f32', '--json', '-'];
    const { status, stdout, stderr } = await runCli(args, { env: { ...env, RLVR_THREADS: '3' } });
    expect(status, stderr).toBe(0);
    const { rows, comparisons }: BenchReport = JSON.parse(stdout);
    expect([...new Set(rows.map(({ threads }) => threads))]).toEqual([1, 2, 3]);
    expect(rows.every(({ section }) => section === 'threads')).toBe(true);
    expect(comparisons.map(({ claim }) => claim)).toContain('forward f32, 3 threads against 1');
    expect(stderr.match(/<\d>/g)?.at(-1)).toBe('<0>'); // no limit is left behind
  });
});

describe('wrong usage ends with 2', () => {
  const report = { benchmark: 'rlvr-kernels bench', format: 1, rows: [] };
  writeFileSync(file('newer.json'), JSON.stringify({ ...report, format: 2 }));
  writeFileSync(file('losses.json'), JSON.stringify({ ...report, benchmark: 'losses' }));
  writeFileSync(file('broken.json'), '{');

  test.each([
    { args: ['speed'], message: 'sections: expected all, or some of token, scores' },
    { args: ['--preset', 'gpt-5'], message: 'Expected names out of llama-2, gpt-2, llama-3, qwen-2.5, gemma-3' },
    { args: ['--preset', 'gpt-2', '--vocab', '7'], message: '--vocab: expected without --preset, got both' },
    { args: ['--width', '7'], message: '--width: expected with --vocab, got it alone' },
    { args: ['--tokens', '0'], message: 'Expected a whole number at least 1' },
    { args: ['--lengths', '8-4'], message: 'Expected a length such as 256 or a range such as 64-448, got "8-4"' },
    {
      args: ['--dtype', 'f32,f64'],
      message: 'Expected names out of f32, bf16, f16, float32, bfloat16, float16, got "f64"',
    },
    { args: ['--backend', 'tpu'], message: 'Expected names out of reference, wasm, cpu, cuda' },
    { args: ['--loss', 'ppo'], message: 'Expected names out of conspo, grpo' },
    { args: ['--repeats', '0'], message: 'Expected a whole number at least 1' },
    { args: ['--json', '/nonexistent/a.json'], message: '--json: expected a path that can be written' },
    { args: ['--json', '-', '--markdown', '-'], message: '--markdown: expected a file, got -' },
    { args: ['--compare', file('none.json')], message: '--compare: expected a file that bench --json wrote' },
    { args: ['--compare', file('broken.json')], message: '--compare: expected a file that bench --json wrote' },
    { args: ['--compare', file('losses.json')], message: '--compare: expected a file that bench --json wrote' },
    { args: ['--compare', file('newer.json')], message: '(format: expected 1, got 2)' },
    { args: ['--peers'], message: "unknown option '--peers'" }, // of the repository's npm run bench only
  ])('$args', async ({ args, message }) => {
    const { status, stdout, stderr } = await runCli(['bench', ...args]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});

test.runIf(backends().some(({ name, available }) => name === 'cuda' && !available))(
  'a backend that is not there ends the run with the reason',
  async () => {
    const { status, stdout, stderr } = await runCli(['bench', '--backend', 'cpu,cuda', ...TINY]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^error: backend: expected an available backend, got 'cuda': .*(driver|built without CUDA)/);
  },
);

test('--help names every option within 100 columns', async () => {
  const { status, stdout } = await runCli(['bench', '--help']);
  expect(status).toBe(0);
  for (const word of ['--preset', '--lengths', '--quiet', '--html', '--compare', 'sweep'])
    expect(stdout).toContain(word);
  expect(widest(stdout)).toBeLessThanOrEqual(100);
});

test('SIGINT stops it in order: 130 and no file', async () => {
  const json = file('stopped.json');
  const child = startCli(['bench', 'objectives', ...TINY, '--repeats', '100000', '--json', json]);
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    const begun = stderr.includes('making');
    stderr += text;
    if (!begun && stderr.includes('making')) child.kill('SIGINT'); // a busy machine has a warning before it
  });
  const [status] = await once(child, 'close');
  expect(status).toBe(130);
  expect(stderr).toMatch(/interrupted by SIGINT\n$/);
  expect(existsSync(json)).toBe(false);
});
