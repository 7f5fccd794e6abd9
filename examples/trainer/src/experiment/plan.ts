// What is run, in which order: tuning on one task, then every contender on others, from the warm start of each.
import { DEFAULTS, type Settings } from '../settings.js';
import { TASKS, type TaskName } from '../tasks.js';
import { type Choice, CONTENDERS, type Contender, TARGETS, WARMUP, WITH_MARGIN } from './contenders.js';

export interface Job {
  id: string;
  contender: string;
  settings: Settings;
}

/** What a contender runs with: its choice and learning rate. */
export interface Chosen extends Choice {
  loss: string;
  learningRate: number;
}

/** The task that hyperparameters are chosen on, which is not reported; and those that are. */
export const TUNING: TaskName = 'add2';
export const REPORTED: readonly TaskName[] = ['phonemes'];

const WARM: Partial<Record<TaskName, Partial<Settings>>> = {
  add2: { warm: 400, warmBatch: 64 },
  phonemes: { warm: 700, warmBatch: 128 },
  sort8: { warm: 60, warmBatch: 64 },
};
const LEARNING_RATES = [1e-4, 2e-4, 4e-4];
const TUNING_SEEDS = [101];
export const SEEDS = [1, 2, 3, 4, 5];
const TUNING_STEPS = 30;
const STEPS = 40;

const COMMON = { groups: 64, samples: 8, updates: 4, rows: 256, evaluateEvery: 20, problems: 256, answers: 8 };

/** The run that each contender on a task begins with. */
export const warmStart = (task: TaskName): Settings => ({
  ...DEFAULTS,
  ...COMMON,
  ...WARM[task],
  task,
  seed: 1,
  steps: 0,
});

function settingsOf(
  task: TaskName,
  seed: number,
  steps: number,
  { loss, learningRate, options = {}, margin }: Chosen,
): Settings {
  const needed = loss === 'drGrpo' ? { maxLength: TASKS[task]().maxAnswer } : {};
  return {
    ...warmStart(task),
    seed,
    steps,
    loss,
    learningRate,
    options: { ...options, ...needed },
    ...(margin && { margin }),
  };
}

const textOf = ({ learningRate, options, margin }: Chosen) =>
  [`lr=${learningRate}`, options && `tau=${options.tau}`, margin && `margin=${margin.target}`]
    .filter(Boolean)
    .join(',');

const tuningJobs = (contender: string, choices: readonly Chosen[]): Job[] =>
  choices.flatMap((chosen) =>
    TUNING_SEEDS.map((seed) => ({
      id: `tuning/${contender}/${textOf(chosen)},seed=${seed}`,
      contender,
      settings: settingsOf(TUNING, seed, TUNING_STEPS, chosen),
    })),
  );

const choicesOf = ({ loss, choices }: Contender): Chosen[] =>
  LEARNING_RATES.flatMap((learningRate) => choices.map((choice) => ({ loss, learningRate, ...choice })));

/** The first stage: every contender but those with a margin. */
export const firstStage = (): Job[] => CONTENDERS.flatMap((one) => tuningJobs(one.name, choicesOf(one)));

/** The second: margins, on top of what was best without one. */
export const secondStage = (best: ReadonlyMap<string, Chosen>): Job[] =>
  WITH_MARGIN.flatMap(({ name }) => {
    const without = best.get('conspo-no-margin')!;
    const choices = TARGETS.map((target): Chosen => {
      if (name === 'conspo') return { ...without, margin: { target, warmup: WARMUP } };
      return { ...without, options: { ...without.options, margin: target } };
    });
    return choices.flatMap((chosen, i) =>
      TUNING_SEEDS.map((seed) => ({
        id: `tuning/${name}/margin=${TARGETS[i]},seed=${seed}`,
        contender: name,
        settings: settingsOf(TUNING, seed, TUNING_STEPS, chosen),
      })),
    );
  });

/** The last: what is reported. Task by task, seed by seed, so that a part of it is a comparison too. */
export const thirdStage = (best: ReadonlyMap<string, Chosen>): Job[] =>
  REPORTED.flatMap((task) =>
    SEEDS.flatMap((seed) =>
      [...best].map(([contender, chosen]) => ({
        id: `${task}/${contender}/seed=${seed}`,
        contender,
        settings: settingsOf(task, seed, STEPS, chosen),
      })),
    ),
  );

export const chosenOf = ({ settings: { loss, learningRate, options, margin } }: Job): Chosen => {
  const { maxLength: _, ...own } = options;
  return { loss, learningRate, options: own, ...(margin && { margin }) };
};

/** The settings with the highest mean of a figure over their seeds. */
export function bestOf(jobs: readonly Job[], figureOf: (job: Job) => number): Map<string, Chosen> {
  const means = new Map<string, { contender: string; job: Job; figures: number[] }>();
  for (const job of jobs) {
    const key = `${job.contender} ${JSON.stringify(chosenOf(job))}`;
    const entry = means.get(key) ?? { contender: job.contender, job, figures: [] };
    entry.figures.push(figureOf(job));
    means.set(key, entry);
  }
  const mean = ({ figures }: { figures: number[] }) => figures.reduce((a, b) => a + b, 0) / figures.length;
  const best = new Map<string, Chosen>();
  for (const entry of [...means.values()].sort((a, b) => mean(b) - mean(a))) {
    if (!best.has(entry.contender)) best.set(entry.contender, chosenOf(entry.job));
  }
  return best;
}
