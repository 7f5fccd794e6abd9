import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { flagNames, spell } from '../../cli/loss/flags.js';
import { completeFlags, flagsOf, lossNames } from '../../cli/loss/recipes.js';
import { NO_ADDON } from '../boundary/child.js';
import { outcomeOf, runCli, startCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();
const rollouts = join(folder, 'rollouts.jsonl');
writeFileSync(rollouts, '{"group":"q","reward":1,"logprobs":[-1]}\n{"group":"q","reward":0,"logprobs":[-2]}\n');

describe('help', () => {
  test.each([
    { args: ['--help'], words: ['info', 'demo', 'loss', '--version', 'Exit codes', 'RLVR_BACKEND'] },
    { args: ['info', '--help'], words: ['--json'] },
    {
      args: ['demo', '--help'],
      words: ['--loss', '--steps', '--seed', '--svg', '--save-rollouts', '--backend', '--json', ...lossNames],
    },
    { args: ['loss', '--help'], words: ['<file>', '--loss', '--backend', '--json', '--out', ...lossNames] },
    { args: ['loss', '--help'], words: flagNames.map(spell) },
  ])('$args names $words', async ({ args, words }) => {
    const { status, stdout, stderr } = await runCli(args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const word of words) expect(stdout).toContain(word);
    expect(Math.max(...stdout.split('\n').map((line) => [...line].length))).toBeLessThanOrEqual(100);
  });

  test('loss --help lists an option under the losses that have it', async () => {
    const { stdout } = await runCli(['loss', '--help']);
    const groups = stdout
      .split('\nOptions of ')
      .map((text) => [...text.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, flag]) => flag));
    const headings = stdout.match(/^Options of .*:$/gm)?.map((heading) => heading.slice('Options of '.length, -1));
    const listed = (loss: string) =>
      (headings ?? []).flatMap((heading, g) =>
        heading === 'every loss' || heading.split(', ').includes(loss) ? groups[g + 1] : [],
      );
    for (const loss of lossNames) expect(listed(loss).sort()).toEqual(flagsOf(loss).map(spell).sort());
  });

  test('--version prints the version of package.json', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await runCli(['--version'])).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });
});

describe('wrong usage ends with 2, one message and no stack trace', () => {
  test.each([
    { args: [], message: 'Usage: rlvr-kernels' },
    { args: ['train'], message: "unknown command 'train'" },
    { args: ['info', '--verbose'], message: "unknown option '--verbose'" },
    { args: ['info', 'more'], message: 'too many arguments' },
    { args: ['demo', '--loss', 'conspo,ppo'], message: 'real, got "ppo"' },
    { args: ['demo', '--loss', 'conspo,'], message: 'Expected all, or names out of conspo, grpo, dapo' },
    { args: ['demo', '--steps', '0'], message: 'Expected a whole number at least 1' },
    { args: ['demo', '--steps', '1.5'], message: 'Expected a whole number at least 1' },
    { args: ['demo', '--seed', 'x'], message: 'got "x"' },
    { args: ['demo', '--svg', '/nonexistent/chart.svg'], message: '--svg: expected a path that can be written' },
    { args: ['demo', '--save-rollouts', folder], message: '--save-rollouts: expected a file, got the directory' },
    { args: ['loss'], message: "missing required argument 'file'" },
    { args: ['loss', join(folder, 'none.jsonl')], message: 'none.jsonl: expected a file that can be read' },
    { args: ['loss', folder], message: 'expected a file that can be read' },
    { args: ['loss', rollouts, '--tau', '0'], message: 'Expected a number above 0, got "0"' },
    { args: ['loss', rollouts, '--tau', ''], message: 'Expected a number above 0, got ""' },
    { args: ['loss', rollouts, '--margin', 'NaN'], message: 'Expected a number, got "NaN"' },
    { args: ['loss', rollouts, '--loss', 'ppo'], message: 'Allowed choices are conspo, grpo' },
    { args: ['loss', rollouts, '--aggregation', 'mean'], message: 'sequence-mean, token-mean, constant-length' },
    { args: ['loss', rollouts, '--backend', 'tpu'], message: 'Allowed choices are reference, wasm, cpu, cuda' },
    {
      args: ['loss', rollouts, '--epsilon-low', '0.1'],
      message: '--epsilon-low: expected only with a loss that has it',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--tau', '1'],
      message: '--tau: expected only with a loss that has it',
    },
    { args: ['loss', rollouts, '--loss', 'grpo', '--kl-coef', '0.1'], message: '--kl-coef: expected "ref_logprobs"' },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--kl-estimator', 'k1'],
      message: '--kl-estimator: expected only with',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--aggregation', 'constant-length'],
      message: '--max-length: expected',
    },
    { args: ['loss', rollouts, '--loss', 'grpo', '--max-length', '8'], message: '--max-length: expected only with' },
    { args: ['loss', rollouts, '--loss', 'drGrpo'], message: '--max-length: expected with --aggregation constant' },
    {
      args: ['loss', rollouts, '--loss', 'drGrpo', '--ddof', '0'],
      message: '--ddof: expected only with --advantage grpo',
    },
    {
      args: ['loss', rollouts, '--loss', 'sapo', '--ddof', '2'],
      message: 'Expected a whole number at least 0 and at most 1',
    },
    {
      args: ['loss', rollouts, '--loss', 'gspo', '--advantage', 'mean'],
      message: 'Allowed choices are grpo, drGrpo, rloo',
    },
    { args: ['loss', rollouts, '--tau', 'none'], message: '--tau: expected a number with --loss conspo' },
    {
      args: ['loss', rollouts, '--loss', 'disco', '--kl-beta', '1'],
      message: '--kl-beta: expected only with --kl-constraint',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--form', 'discriminative', '--kl-coef', '1'],
      message: '--kl-coef: expected only with --form advantage',
    },
    {
      args: ['loss', rollouts, '--loss', 'dapo', '--rollout-max', '3'],
      message: '--rollout-max: expected only with --rollout-correction',
    },
    {
      args: ['loss', rollouts, '--loss', 'dapo', '--rollout-correction', 'token'],
      message: '--rollout-correction: expected "rollout_logprobs" on every line',
    },
    {
      args: ['loss', rollouts, '--loss', 'dapo', '--rollout-correction', 'none', '--rollout-max', '3'],
      message: '--rollout-max: expected only with --rollout-correction token or sequence',
    },
    {
      args: ['loss', rollouts, '--loss', 'dapo', '--rollout-correction', 'sequence', '--rollout-sequence-max', '3'],
      message: '--rollout-sequence-max: expected only with --rollout-correction token or none',
    },
    {
      args: ['loss', rollouts, '--loss', 'dapo', '--rollout-reject', 'token-k1', '--rollout-reject-max', '1'],
      message: '--rollout-reject: expected only with --rollout-correction',
    },
    {
      args: ['loss', rollouts, '--loss', 'dapo', '--rollout-correction', 'none', '--rollout-reject', 'token-k1'],
      message: '--rollout-reject: expected with --rollout-reject-min or --rollout-reject-max, got neither',
    },
    {
      args: ['loss', rollouts, '--loss', 'vespo', '--rollout-reject', 'token-k1'],
      message: '--rollout-reject: expected only with a loss that has it, got --loss vespo',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--distillation', '1'],
      message: '--distillation: expected "teacher_logprobs" on every line',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--clip-cov', '2'],
      message: 'Expected a number at least 0 and at most 1',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--clip-cov-seed', '2'],
      message: '--clip-cov-seed: expected only with --clip-cov',
    },
    {
      args: ['loss', rollouts, '--loss', 'gmpo', '--clip-cov', '1'],
      message: 'clipCov: expected weights per sequence',
    },
    {
      args: ['loss', rollouts, '--loss', 'grpo', '--form', 'discriminative', '--kl-cov', '1'],
      message: '--kl-cov: expected only with --form advantage',
    },
    { args: ['loss', rollouts, '--loss', 'cispo', '--ratio-min', '6'], message: 'ratioMax: expected' },
    {
      args: ['loss', rollouts, '--out', '/nonexistent/out.jsonl'],
      message: '--out: expected a path that can be written',
    },
  ])('$args', async ({ args, message }) => {
    const { status, stdout, stderr } = await runCli(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test('every flag with every loss: taken, or refused by name', () => {
    for (const loss of lossNames) {
      for (const flag of flagNames) {
        const complete = () => completeFlags(loss, { [flag]: 1 });
        const stray = `${spell(flag)}: expected only with a loss that has it, got --loss ${loss}`;
        if (!flagsOf(loss).includes(flag)) expect(complete, stray).toThrow(stray);
        else expect(completeOrMessage(complete)).not.toBe(stray);
      }
    }
  });

  test('an unknown RLVR_BACKEND', async () => {
    const { status, stderr } = await runCli(['loss', rollouts], { env: { RLVR_BACKEND: 'tpu' } });
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: 'error: RLVR_BACKEND: expected reference, wasm, cpu, cuda, got "tpu"\n',
    });
  });
});

/** Which other flags a flag needs is tested elsewhere. */
function completeOrMessage(complete: () => object): unknown {
  try {
    return complete();
  } catch (error) {
    return (error as Error).message;
  }
}

test('an absent backend is a failure: 1, with the reason', async () => {
  const { status, stdout, stderr } = await runCli(['loss', rollouts, '--backend', 'cpu'], {
    env: NO_ADDON,
  });
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/^error: backend: expected an available backend, got 'cpu': .+\n$/);
});

test('a reader that goes away is no failure', async () => {
  const child = startCli(['demo', '--loss', 'conspo', '--steps', '2', '--json']);
  child.stdout?.destroy();
  const { status, stderr } = await outcomeOf(child);
  expect(status).toBe(0);
  expect(stderr).toMatch(/^(conspo +step \d\/2 {2}accuracy \d\.\d\d\n)+$/);
});

test.each([
  { name: 'SIGINT', code: 130 },
  { name: 'SIGTERM', code: 143 },
] as const)('$name stops the demo in order: $code and no file', async ({ name, code }) => {
  const svg = join(folder, 'chart.svg');
  const child = startCli(['demo', '--steps', '600', '--svg', svg]);
  child.stderr?.once('data', () => child.kill(name)); // at the first sign of training, which goes on for 1140 steps
  const { status, stderr } = await outcomeOf(child);
  expect(status).toBe(code);
  expect(stderr).toMatch(new RegExp(`^conspo +step 60/600 .*\ninterrupted by ${name}\n$`));
  expect(readdirSync(folder)).toEqual(['rollouts.jsonl']);
});
