// The slow one: every loss trains a policy. Half the default steps, which takes seconds a loss.
import { beforeAll, expect, test } from 'vitest';
import { recipes } from '../../cli/demo/recipes.js';
import { runCli } from './run-cli.js';

const names = Object.keys(recipes);
let runs: { loss: string; accuracies: number[]; accuracy: number }[];

// All in one process: each trains from the same start, whatever was trained before it.
beforeAll(async () => {
  const { status, stdout, stderr } = await runCli(['demo', '--json', '--loss', 'all', '--steps', '150']);
  expect(status, stderr).toBe(0);
  ({ runs } = JSON.parse(stdout));
}, 600_000);

test.each(names)('%s learns', (name) => {
  const { accuracies, accuracy } = runs.find(({ loss }) => loss === name) ?? expect.fail('it was not trained');
  expect(accuracies[0]).toBeLessThanOrEqual(0.05);
  expect(accuracy).toBeGreaterThanOrEqual(learned(name));
});

/**
 * Well below what eight seeds reach by then: 0.85 or more, and with Dr. GRPO, the slowest, 0.64 or more. REAL, tried with two seeds,
 * saturates at 0.74 and 0.79.
 */
function learned(name: string): number {
  return ['drGrpo', 'real'].includes(name) ? 0.5 : 0.7;
}
