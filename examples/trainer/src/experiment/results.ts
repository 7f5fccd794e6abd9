// What the runs of the experiment left in their folders, as one JSON file.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { Evaluation } from '../loop.js';
import { type Chosen, chosenOf, type Job, REPORTED, TUNING } from './plan.js';

interface Line {
  step?: number;
  sampled?: number;
  greedy?: number;
  passAtK?: number;
  heldOutEntropy?: number;
  rewardMean?: number;
  scoreGap?: number;
  /** Of each group with both signs: its score gap, and the credit of its positives. */
  credits?: [gap: number, credit: number][];
}

const linesOf = (folder: string): Line[] => {
  const file = join(folder, 'log.jsonl');
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((text) => JSON.parse(text) as Line);
};

const evaluationsOf = (folder: string) =>
  linesOf(folder)
    .filter((line) => line.sampled !== undefined)
    .map(({ step, sampled, greedy, passAtK, heldOutEntropy }) => ({ step, sampled, greedy, passAtK, heldOutEntropy }));

export const isDone = (folder: string, steps: number): boolean => evaluationsOf(folder).at(-1)?.step === steps;
export const finalOf = (folder: string): Evaluation => evaluationsOf(folder).at(-1) as Evaluation;

/** Bounds of the bins of score gaps, in nats per token; the first and the last are open. */
const GAPS = [-0.5, -0.25, -0.1, 0, 0.1, 0.25, 0.5, 1];

/** Over all groups of a run: how many had a gap in each bin, and the sum of their credits. */
function creditsOf(folder: string) {
  const bins = Array.from({ length: GAPS.length + 1 }, () => ({ count: 0, sum: 0 }));
  for (const { credits = [] } of linesOf(folder)) {
    for (const [gap, credit] of credits) {
      const bin = bins[GAPS.filter((bound) => gap >= bound).length]!;
      bin.count++;
      bin.sum += credit;
    }
  }
  return bins;
}

interface Sources {
  tuning: readonly Job[];
  reported: readonly Job[];
  best: ReadonlyMap<string, Chosen>;
  folderOf(id: string): string;
}

export function resultsOf({ tuning, reported, best, folderOf }: Sources) {
  return {
    version: createRequire(import.meta.url)('rlvr-kernels/package.json').version as string,
    node: process.version,
    cpu: cpus()[0]?.model,
    tuning: {
      task: TUNING,
      runs: tuning.map((job) => {
        const { seed } = job.settings;
        return { contender: job.contender, ...chosenOf(job), seed, final: finalOf(folderOf(job.id)) };
      }),
      best: Object.fromEntries(best),
    },
    settings: reported[0]!.settings,
    gaps: GAPS,
    tasks: REPORTED.map((task) => ({
      task,
      runs: reported
        .filter(({ settings }) => settings.task === task)
        .map(({ id, contender, settings }) => ({
          contender,
          seed: settings.seed,
          curve: evaluationsOf(folderOf(id)),
          rewards: linesOf(folderOf(id)).flatMap(({ step, rewardMean }) => (step ? [rewardMean] : [])),
          scoreGaps: linesOf(folderOf(id)).flatMap(({ step, scoreGap }) => (step ? [scoreGap] : [])),
          credits: creditsOf(folderOf(id)),
        })),
    })),
  };
}

export type Results = ReturnType<typeof resultsOf>;

export function writeResults(file: string, sources: Sources): void {
  writeFileSync(file, `${JSON.stringify(resultsOf(sources))}\n`);
}
