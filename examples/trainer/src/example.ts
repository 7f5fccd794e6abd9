// From nothing, in a few minutes: an untrained transformer learns to sort a little by imitation, then much better by RLVR; in both frameworks.
//   npm run example -- [--framework tfjs|jax] [--quick]
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { writePage } from './page.js';
import { withBar } from './progress.js';
import { type LogLine, type Run, train } from './run.js';
import { DEFAULTS, type Settings } from './settings.js';

const options = { framework: { type: 'string' }, quick: { type: 'boolean' } } as const;
const flags = parseArgs({ options }).values;
const frameworks = (['tfjs', 'jax'] as const).filter((one) => (flags.framework ?? one) === one);
if (frameworks.length === 0) throw new Error(`--framework: expected tfjs or jax, got ${flags.framework}`);

const SETTINGS: Settings = {
  ...DEFAULTS,
  task: 'sort8',
  warm: 50,
  steps: 80,
  groups: 32,
  rows: 256,
  learningRate: 5e-4,
};
const QUICK = { warm: 8, steps: 4, groups: 4, evaluateEvery: 2, problems: 16 };

const percent = (value: unknown) => `${(100 * (value as number)).toFixed(0)} %`;
const sumOf = (lines: readonly LogLine[], key: string) =>
  lines.reduce((sum, line) => sum + ((line[key] as number) ?? 0), 0);

/** What a run came to, in a few lines. */
function summary(lines: readonly LogLine[], seconds: number): string {
  const evaluated = lines.filter(({ sampled }) => sampled !== undefined);
  const [before, after] = [evaluated[0]!, evaluated.at(-1)!];
  const change = (key: string) => `${percent(before[key])} -> ${percent(after[key])}`;
  const steps = lines.filter(({ step }) => typeof step === 'number' && step > 0);
  const spent = (['modelMs', 'samplingMs', 'kernelsMs'] as const).map((key) => sumOf(steps, key) / steps.length);
  const [model, sampling, kernels] = spent.map((ms) => `${ms.toPrecision(3)} ms`);
  return [
    `  ${seconds.toFixed(0)} s; RLVR took the sampled accuracy from ${change('sampled')}, the greedy one from ${change('greedy')}`,
    `  a step: ${model} in the model's passes, ${sampling} in sampling with it, ${kernels} in rlvr-kernels`,
  ].join('\n');
}

for (const framework of frameworks) {
  const settings: Settings = { ...SETTINGS, framework, ...(flags.quick && QUICK) };
  const folder = `runs/example-${framework}`;
  rmSync(folder, { recursive: true, force: true });
  const lines: LogLine[] = [];
  const start = performance.now();
  const run = (onStep: NonNullable<Run['onStep']>) =>
    train(settings, {
      folder,
      onStep(line, done, all) {
        lines.push(line);
        onStep(line, done, all);
      },
    });
  await withBar(run);
  console.log(
    `${framework}: ${settings.task}, ${settings.loss}, ${settings.warm} steps of imitation, ${settings.steps} of RLVR`,
  );
  console.log(summary(lines, (performance.now() - start) / 1000));
  console.log(`  ${writePage(folder, [folder])}`);
}
