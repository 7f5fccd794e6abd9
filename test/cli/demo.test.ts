import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { lossNames } from '../../cli/loss/recipes.js';
import { readJsonLines, runCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();

interface Run {
  loss: string;
  accuracy: number;
  steps: number;
  seconds: number;
  losses: number[];
  accuracies: number[];
  sampledAccuracies: number[];
}

interface RolloutLine {
  group: string;
  answer: string;
  reward: number;
  logprobs: number[];
  old_logprobs: number[];
  ref_logprobs: number[];
}

async function demo(...args: string[]): Promise<{ backend: string; seed: number; runs: Run[]; stderr: string }> {
  const { status, stdout, stderr } = await runCli(['demo', '--json', ...args]);
  expect(status, stderr).toBe(0);
  expect(stdout.endsWith('\n')).toBe(true);
  expect(stdout.trimEnd().split('\n')).toHaveLength(1);
  return { ...JSON.parse(stdout), stderr };
}

describe('demo', () => {
  test('its two losses learn from the same start, from chance to at least 0.9, and the picture shows it', async () => {
    const svg = join(folder, 'chart.svg');
    const { backend, seed, runs, stderr } = await demo('--backend', 'cpu', '--svg', svg);
    expect({ backend, seed, losses: runs.map(({ loss }) => loss) }).toEqual({
      backend: 'cpu',
      seed: 1,
      losses: ['conspo', 'grpo'],
    });
    for (const { accuracy, accuracies, sampledAccuracies, losses, steps, seconds } of runs) {
      expect(accuracies[0]).toBeLessThanOrEqual(0.05);
      expect(accuracy).toBeGreaterThanOrEqual(0.9);
      expect({ losses: losses.length, accuracies: accuracies.length }).toEqual({
        losses: steps,
        accuracies: steps + 1,
      });
      expect(accuracies[steps]).toBe(accuracy);
      expect(sampledAccuracies).toHaveLength(steps + 1);
      expect(sampledAccuracies[0]).toBeLessThanOrEqual(0.05);
      expect(sampledAccuracies[steps]).toBeGreaterThanOrEqual(0.3); // less sure than greedy ones, as exploration needs
      expect(seconds).toBeGreaterThan(0);
    }
    expect(runs[0].accuracies[0]).toBe(runs[1].accuracies[0]);
    expect(stderr).toMatch(/conspo +step 300\/300 {2}accuracy \d\.\d\d/);
    const picture = readFileSync(svg, 'utf8');
    for (const { loss, accuracy, steps } of runs) {
      expect(picture).toContain(`>${loss} ${accuracy.toFixed(2)}</text>`);
      expect(picture.match(/<polyline points="([^"]*)"/g)?.every((line) => line.split(',').length === steps + 2)).toBe(
        true,
      );
    }
    expect(picture.match(/<polyline/g)).toHaveLength(2);
  });

  test('the same seed gives the same 20 losses on both backends, to 1e-4', async () => {
    const [cpu, reference] = await Promise.all([
      demo('--steps', '20', '--backend', 'cpu'),
      demo('--steps', '20', '--backend', 'reference'),
    ]);
    expect([cpu.backend, reference.backend]).toEqual(['cpu', 'reference']);
    cpu.runs.forEach(({ loss, losses }, r) => {
      expect(losses).toHaveLength(20);
      losses.forEach((value, step) => {
        expect(Math.abs(value - reference.runs[r].losses[step]), `${loss}, step ${step}`).toBeLessThanOrEqual(1e-4);
      });
      expect(Math.max(...losses.map(Math.abs))).toBeGreaterThan(1e-3); // or they would be equal because all are 0
    });
  });

  test('the seed decides, and nothing else', async () => {
    const run = (seed: string) => demo('--steps', '5', '--loss', 'conspo', '--seed', seed);
    const [first, again, other] = await Promise.all([run('3'), run('3'), run('4')]);
    expect(first.runs).toHaveLength(1);
    expect(again.runs[0].losses).toEqual(first.runs[0].losses);
    expect(other.runs[0].losses).not.toEqual(first.runs[0].losses);
  });

  test('--loss keeps its order and drops repetitions', async () => {
    const { runs } = await demo('--steps', '1', '--loss', 'grpo, conspo,grpo');
    expect(runs.map(({ loss }) => loss)).toEqual(['grpo', 'conspo']);
  });

  test('--loss all: every loss that `loss` knows, in one chart', async () => {
    const { status, stdout } = await runCli(['demo', '--steps', '2', '--loss', 'gspo,all']);
    expect(status).toBe(0);
    const names = ['gspo', ...lossNames.filter((name) => name !== 'gspo')];
    const summary = [...stdout.matchAll(/^([a-zA-Z]+) +0\.\d\d +0\.\d\d/gm)].map(([, name]) => name);
    expect(summary).toEqual(names);
    const legend = [...stdout.matchAll(/(?<= )([a-n]) ([a-zA-Z]+)(?= {3}|$)/gm)].map(
      ([, letter, name]) => letter + name,
    );
    expect(legend).toEqual(names.map((name, i) => 'abcdefghijklmn'[i] + name));
    expect(Math.max(...stdout.split('\n').map((line) => [...line].length))).toBeLessThanOrEqual(100);
  });

  test('people get a chart with both curves, a table, and no overclaim', async () => {
    const { status, stdout } = await runCli(['demo', '--steps', '12']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/─── conspo {3}═══ grpo/);
    expect(stdout).toMatch(/^ {2}1\.0.*\n(.*\n){9} {2}0\.0/m);
    expect(stdout).toContain('step 12');
    expect(stdout).toMatch(/^loss +greedy at start +at the end +sampled at start +at the end +/m);
    expect(stdout).toMatch(/^conspo( +0\.\d\d){4} +–/m);
    expect(stdout).toMatch(/^grpo +0\.\d\d +0\.\d\d/m);
    expect(stdout).toContain('toy task');
    expect(stdout).not.toContain('\u{1b}'); // not a terminal: no colours
    expect(Math.max(...stdout.split('\n').map((line) => [...line].length))).toBeLessThanOrEqual(100);
  });

  test('--save-rollouts writes what `loss` reads', async () => {
    const file = join(folder, 'rollouts.jsonl');
    await demo('--steps', '20', '--loss', 'grpo', '--save-rollouts', file);
    const lines = readJsonLines<RolloutLine>(file);
    for (const { group, answer, reward, logprobs, old_logprobs, ref_logprobs } of lines) {
      const [a, b] = group.split('+').map(Number);
      expect(reward).toBe(answer === `${(a + b).toString(5)}.` ? 1 : 0);
      const lengths = [logprobs, old_logprobs, ref_logprobs].map((values) => values.length);
      expect(lengths).toEqual([answer.length, answer.length, answer.length]);
    }
    expect(lines.some(({ reward }) => reward === 1)).toBe(true);
    const { status, stdout } = await runCli(['loss', file, '--loss', 'grpo', '--kl-coef', '0.2', '--json']);
    expect(status).toBe(0);
    const { totals, metrics } = JSON.parse(stdout);
    expect(totals).toMatchObject({ groups: new Set(lines.map(({ group }) => group)).size, size: lines.length });
    expect(metrics.kl).toBeGreaterThan(0);
    // Saved at the second update of a step: off-policy, so that the example has ratios worth looking at.
    expect(lines.some(({ logprobs, old_logprobs }) => Math.abs(logprobs[0] - old_logprobs[0]) > 1e-4)).toBe(true);
  });
});
