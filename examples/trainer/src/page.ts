// The curves of some runs, as one HTML page that needs nothing else.
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Chart, drawChart } from './charts.js';

const CHARTS: [title: string, keys: string[]][] = [
  ['Accuracy on problems kept apart', ['sampled', 'greedy', 'passAtK']],
  ['Reward of sampled answers', ['rewardMean']],
  ['Loss', ['loss']],
  ['Loss of the warm start', ['warmLoss']],
  ['Entropy, nats per token', ['entropy']],
  ['Drift from the sampler: mean ratio', ['ratioMean']],
  ['Score gap', ['scoreGap']],
  ['Norm of the gradient', ['gradientNorm']],
  ['Milliseconds of a step', ['modelMs', 'samplingMs', 'kernelsMs']],
];

type LogLine = Record<string, number>;

/** A log, the lines of the warm start under names of their own. */
function linesOf(folder: string): LogLine[] {
  const text = readFileSync(join(folder, 'log.jsonl'), 'utf8');
  const lines = text.split('\n').filter(Boolean);
  return lines.map((line) => {
    const { warm, loss, step, ...rest }: LogLine = JSON.parse(line);
    return warm === undefined ? { ...rest, x: step!, loss: loss! } : { x: warm, warmLoss: loss! };
  });
}

/** One chart: a line for each run and key that has points. */
function chartOf([title, keys]: (typeof CHARTS)[number], runs: ReadonlyMap<string, LogLine[]>): Chart {
  const lines = [...runs].flatMap(([run, log]) =>
    keys.map((key) => ({
      name: [runs.size > 1 ? run : '', keys.length > 1 ? key : ''].filter(Boolean).join(' ') || key,
      points: log.filter((line) => line[key] !== undefined).map((line) => [line.x!, line[key]!] as const),
    })),
  );
  return { title, lines: lines.filter(({ points }) => points.length > 1) };
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** Writes curves.html into a folder; returns its path. */
export function writePage(folder: string, runFolders: readonly string[]): string {
  const runs = new Map(runFolders.map((of) => [basename(of), linesOf(of)]));
  const charts = CHARTS.map((one) => chartOf(one, runs)).filter(({ lines }) => lines.length > 0);
  const title = escaped([...runs.keys()].join(', '));
  const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>
  body { font: 15px system-ui, sans-serif; margin: 1.5rem; color: #1f2328; background: #fff }
  main { display: flex; flex-wrap: wrap; gap: 1rem }
  svg { border: 1px solid #d0d7de; border-radius: 6px }
</style>
<h1>${title}</h1>
<main>
${charts.map((chart) => drawChart(chart)).join('\n')}
</main>
</html>
`;
  const file = join(folder, 'curves.html');
  writeFileSync(file, page);
  return file;
}
