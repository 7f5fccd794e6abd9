// docs/experiments.md and its charts, from the results and from findings.md, which a person writes.
import { drawChart, type Line } from '../charts.js';
import { ORDER } from './contenders.js';
import type { Results } from './results.js';
import { bootstrap, type Interval, meanOf, paired } from './statistics.js';

type TaskResults = Results['tasks'][number];
type Run = TaskResults['runs'][number];
type Figure = 'sampled' | 'greedy' | 'passAtK' | 'heldOutEntropy';

const FIGURES: readonly [Figure, string][] = [
  ['sampled', 'sampled'],
  ['greedy', 'greedy'],
  ['passAtK', 'pass@8'],
  ['heldOutEntropy', 'entropy'],
];

const runsOf = ({ runs }: TaskResults, contender: string) => {
  return runs.filter((run) => run.contender === contender).sort((a, b) => a.seed - b.seed);
};
const finals = (runs: readonly Run[], figure: Figure) => runs.map(({ curve }) => curve.at(-1)![figure]!);

const three = (value: number) => value.toFixed(3);
const withInterval = ({ mean, low, high }: Interval) => `${three(mean)} (${three(low)} to ${three(high)})`;
const signed = ({ mean, low, high }: Interval) => {
  const [m, l, h] = [mean, low, high].map((value) => `${value < 0 ? '−' : '+'}${three(Math.abs(value))}`);
  return `${m} (${l} to ${h})`;
};

const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

function finalTable(task: TaskResults): string {
  const [before] = task.runs[0]!.curve; // the same in all runs
  const start = FIGURES.map(([figure]) => three(before![figure]!));
  const rows = ORDER.map(({ name, title }) => {
    const runs = runsOf(task, name);
    return [title, ...FIGURES.map(([figure]) => withInterval(bootstrap(finals(runs, figure))))];
  });
  return table(['', ...FIGURES.map(([, title]) => title)], [['*warm start*', ...start], ...rows]);
}

/** Each contender's sampled accuracy less GRPO's and less ConSPO's, seed by seed. */
function differences(task: TaskResults): string {
  const of = (name: string) => finals(runsOf(task, name), 'sampled');
  const rows = ORDER.map(({ name, title }) => {
    const against = ['grpo', 'conspo'].map((other) => (other === name ? '' : signed(paired(of(name), of(other)))));
    return [title, ...against];
  });
  return table(['sampled accuracy', 'less that of GRPO', 'less that of ConSPO'], rows);
}

/** The mean over seeds of a figure at each evaluation. */
function curves(task: TaskResults, names: readonly string[], figure: Figure): Line[] {
  return ORDER.filter(({ name }) => names.includes(name)).map(({ name, title }) => {
    const runs = runsOf(task, name);
    const points = runs[0]!.curve.map(
      ({ step }, i) => [step!, meanOf(runs.map(({ curve }) => curve[i]![figure]!))] as const,
    );
    return { name: title, points };
  });
}

const OURS = ORDER.map(({ name }) => name).filter((name) => name.startsWith('conspo'));
const OTHERS = ['conspo', ...ORDER.map(({ name }) => name).filter((name) => !name.startsWith('conspo'))];

/** The charts of a task, by the name of their file, and the lines of the page that show them. */
function charts(task: TaskResults) {
  const files = new Map<string, string>();
  const images = (['sampled', 'heldOutEntropy'] as const).flatMap((figure) =>
    [OURS, OTHERS].map((names, i) => {
      const what = figure === 'sampled' ? 'sampled accuracy' : 'entropy, nats per token';
      const title = `${task.task}: ${what}, ${i === 0 ? 'ConSPO and its ablations' : 'ConSPO and other losses'}`;
      const file = `experiment-${task.task}-${figure === 'sampled' ? 'sampled' : 'entropy'}-${i === 0 ? 'ablations' : 'losses'}.svg`;
      files.set(file, `${drawChart({ title, lines: curves(task, names, figure) })}\n`);
      return `![${title}](${file})`;
    }),
  );
  return { files, images: images.join('\n') };
}

/** Mean credit of a group's positives against its score gap. */
function creditTable(task: TaskResults, gaps: readonly number[]): string {
  const contenders = ORDER.filter(
    ({ name }) => OURS.includes(name) && runsOf(task, name)[0]!.credits.some(({ count }) => count > 0),
  );
  const label = (bin: number) => {
    if (bin === 0) return `below ${gaps[0]}`;
    return bin === gaps.length ? `above ${gaps.at(-1)}` : `${gaps[bin - 1]} to ${gaps[bin]}`;
  };
  const rows = Array.from({ length: gaps.length + 1 }, (_, bin) => [
    label(bin),
    ...contenders.map(({ name }) => {
      const bins = runsOf(task, name).map(({ credits }) => credits[bin]!);
      const count = bins.reduce((sum, one) => sum + one.count, 0);
      return count < 20 ? '–' : (bins.reduce((sum, one) => sum + one.sum, 0) / count).toFixed(2);
    }),
  ]);
  return table(['score gap of the group', ...contenders.map(({ title }) => title)], rows);
}

function tuningTable({ tuning }: Results): string {
  const rows = ORDER.map(({ name, title }) => {
    const { learningRate, options = {}, margin } = tuning.best[name]!;
    const { tau, margin: fixed } = options as { tau?: number; margin?: number };
    const target = margin ? `grows to ${margin.target}` : fixed === undefined ? '' : `${fixed}`;
    return [title, `${learningRate}`, tau === undefined ? '' : `${tau}`, target];
  });
  return table(['', 'learning rate', '`tau`', '`margin`'], rows);
}

/** The files of docs/, by name. */
export function report(results: Results, findings: string): Map<string, string> {
  const { settings, tuning } = results;
  const seeds = new Set(results.tasks[0]!.runs.map(({ seed }) => seed)).size;
  const drawn = new Map(results.tasks.map((task) => [task.task, charts(task)]));
  const page = `<!-- Generated from bench/results/experiment.json and examples/trainer/src/experiment/findings.md by npm run experiment:report. Do not edit. -->

# Twelve losses on one transformer

${findings.trim().replaceAll('../../../../docs/', '')}

## What was run

A decoder-only transformer (${settings.layers} layers, width ${settings.width}) in TensorFlow.js, from the example trainer in the repository, \`examples/trainer\`. Of each task one
warm start by imitation, the same for all; from it ${seeds} seeds of ${settings.steps} steps of RLVR. A step samples ${settings.samples} answers to each of ${settings.groups} problems at
temperature ${settings.temperature} and makes ${settings.updates} updates of Adam, each on a part of the problems: all but the first are off-policy. Evaluated on
${settings.problems} problems that are never trained on, greedily and with ${settings.answers} sampled answers each; entropy is the mean negative log-prob of a sampled
token. Intervals are 95 % percentile intervals of the bootstrap over seeds: with ${seeds} of them they are rough, and they hold for these warm starts and these
held-out problems only. Every contender saw the same problems in the same order, so differences are taken seed by seed.

Learning rate, \`tau\` and margin were chosen on another task, \`${tuning.task}\`, one seed each, by sampled accuracy at the end; margins on top of what was best without one:

${tuningTable(results)}

${results.tasks
  .map(
    (task) => `## ${task.task}

At the end:

${finalTable(task)}

Differences, seed by seed:

${differences(task)}

${drawn.get(task.task)!.images}

Credit of positives (1: pulled as hard as the objective can; 0: left alone), by the score gap of their group in nats per token, over all steps and seeds; a dash where fewer than 20 groups fell:

${creditTable(task, results.gaps)}`,
  )
  .join('\n\n')}

## Again

\`\`\`sh
npm ci && npm run experiment         # hours; may be stopped and started again
npm run experiment:report            # this page, from bench/results/experiment.json
\`\`\`

Node ${results.node}, ${results.cpu}; rlvr-kernels ${results.version}. On another machine rounding differs, and with it, after some steps, every sampled token.
`;
  return new Map([['experiments.md', page], ...[...drawn.values()].flatMap(({ files }) => [...files])]);
}
