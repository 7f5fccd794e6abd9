import { type Command, InvalidArgumentError, Option } from 'commander';
import { startProgress } from '../../bench/progress.js';
import type { BackendName } from '../../lib/index.js';
import { backendOption, jsonOption, numberWithin, resolveBackend } from '../options.js';
import { OutputFile, onStandardOutput } from '../output-file.js';
import { renderTable } from '../table.js';
import { type RecipeName, recipes } from './recipes.js';
import { rolloutLines } from './save-rollouts.js';
import { svgChart } from './svg-chart.js';
import { terminalChart } from './terminal-chart.js';
import { type TrainingRun, train } from './trainer.js';

interface DemoOptions {
  readonly loss: readonly RecipeName[];
  readonly steps: number;
  readonly seed: number;
  readonly backend?: BackendName;
  readonly json?: boolean;
  readonly svg?: string;
  readonly saveRollouts?: string;
}

const lossNames = Object.keys(recipes) as RecipeName[];
const defaultLosses: readonly RecipeName[] = ['conspo', 'grpo'];
const nameWidth = Math.max(...lossNames.map(({ length }) => length));

const help = `
The task: additions of two digits such as 7+8, answered in base 5. A rollout is
correct only if it is exact, and that is all the policy, a small network that starts
from nothing, is ever told. All losses train from the same start. Accuracy is over
all questions, of greedy answers, and of sampled ones: the chance that one is right.

Losses, and what is not their default. KL: the weight of the penalty (k3) that keeps
the policy near its start, without which these losses stop exploring too early.
${lossNames.map((name) => `  ${name.padEnd(nameWidth)}  ${recipes[name].description}`).join('\n')}`;

export function addDemoCommand(program: Command, signal: AbortSignal): void {
  program
    .command('demo')
    .description('train a small policy by reinforcement learning with verifiable rewards, once per loss')
    .addOption(
      new Option('--loss <names>', 'losses to train with, separated by commas, or all')
        .argParser(parseLossNames)
        .default(defaultLosses, defaultLosses.join(',')),
    )
    .option('--steps <number>', 'training steps', numberWithin({ min: 1, max: 1e6, integer: true }), 300)
    .option(
      '--seed <number>',
      'seed of weights and samples',
      numberWithin({ min: 0, max: 2 ** 32 - 1, integer: true }),
      1,
    )
    .addOption(backendOption())
    .addOption(jsonOption('end with one line of JSON instead of chart and table'))
    .option('--svg <file>', 'write the chart as SVG; - for standard output, in place of chart and table')
    .option(
      '--save-rollouts <file>',
      "write the last step's rollouts of the first loss, in the format that `loss` reads; - likewise",
    )
    .addHelpText('after', help)
    .action((options: DemoOptions) => runDemo(options, signal));
}

function parseLossNames(text: string): RecipeName[] {
  const names = text.split(',').flatMap((part): string[] => (part.trim() === 'all' ? lossNames : [part.trim()]));
  const isKnown = (name: string): name is RecipeName => Object.hasOwn(recipes, name);
  const unknown = names.find((name) => !isKnown(name));
  if (unknown !== undefined) {
    const expected = `Expected all, or names out of ${lossNames.join(', ')}`;
    throw new InvalidArgumentError(`${expected}, got ${JSON.stringify(unknown)}.`);
  }
  return [...new Set(names.filter(isKnown))];
}

async function runDemo(options: DemoOptions, signal: AbortSignal): Promise<void> {
  const { json, svg: svgPath, saveRollouts } = options;
  const files = { '--json': json ? '-' : undefined, '--svg': svgPath, '--save-rollouts': saveRollouts };
  const withChart = onStandardOutput(files) === undefined;
  const backend = resolveBackend(options.backend);
  const svg = svgPath === undefined ? undefined : await OutputFile.open('--svg', svgPath);
  const saved = saveRollouts === undefined ? undefined : await OutputFile.open('--save-rollouts', saveRollouts);
  const runs: TrainingRun[] = [];
  for (const loss of options.loss) runs.push(await trainWithProgress(loss, backend, options, signal));
  const curves = runs.map(({ loss, accuracies }) => ({ name: loss, values: accuracies }));
  await svg?.write([svgChart(curves, options.steps)], signal);
  await saved?.write(rolloutLines(runs[0].lastStep), signal);
  if (json) {
    const summaries = runs.map(({ lastStep, ...run }) => run);
    process.stdout.write(`${JSON.stringify({ backend, seed: options.seed, runs: summaries })}\n`);
  }
  if (withChart) {
    const useColor = process.stdout.isTTY && process.stdout.hasColors();
    process.stdout.write(`\n${terminalChart(curves, options.steps, useColor)}\n\n${renderSummary(runs, backend)}\n`);
  }
}

async function trainWithProgress(
  loss: RecipeName,
  backend: BackendName,
  { steps, seed }: DemoOptions,
  signal: AbortSignal,
): Promise<TrainingRun> {
  const label = loss.padEnd(nameWidth);
  const progress = startProgress({
    total: steps,
    bar: '{bar} {text}',
    clearOnComplete: false,
    lines: 10,
    signal,
  });
  const onStep = (step: number, accuracy: number) =>
    progress.update(step, `${label}  step ${step}/${steps}  accuracy ${accuracy.toFixed(2)}`);
  try {
    return await train({ loss, steps, seed, backend, signal, onStep });
  } finally {
    progress.stop();
  }
}

function renderSummary(runs: readonly TrainingRun[], backend: BackendName): string {
  const table = renderTable(
    [
      { header: 'loss', align: 'left' },
      { header: 'greedy at start', align: 'right' },
      { header: 'at the end', align: 'right' },
      { header: 'sampled at start', align: 'right' },
      { header: 'at the end', align: 'right' },
      { header: 'greedy 0.9 at step', align: 'right' },
      { header: 'seconds', align: 'right' },
    ],
    runs.map(({ loss, steps, accuracy, accuracies, sampledAccuracies, seconds }) => {
      const firstGood = accuracies.findIndex((value) => value >= 0.9);
      return [
        loss,
        accuracies[0].toFixed(2),
        accuracy.toFixed(2),
        sampledAccuracies[0].toFixed(2),
        sampledAccuracies[steps].toFixed(2),
        firstGood < 0 ? '–' : String(firstGood),
        seconds.toFixed(1),
      ];
    }),
  );
  const note = 'Accuracy over all questions: of greedy answers, and of sampled ones, the chance that one is right.';
  return `${table}\n\n${note}\nBackend ${backend}. A toy task: it shows that the gradients train a policy, not which loss is better.`;
}
