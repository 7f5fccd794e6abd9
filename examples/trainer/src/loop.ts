// The two phases of training: imitation of right answers, then RLVR with any loss.
import * as rlvr from 'rlvr-kernels';
import type { Model } from './model.js';
import type { Random } from './random.js';
import { type Answer, answersOf } from './sample.js';
import { encode, type Problem, reward, type Task } from './tasks.js';

export interface Settings {
  loss: rlvr.LossName;
  options: rlvr.AnyLossOptions;
  learningRate: number;
  temperature: number;
  /** Problems of a step, and answers to each. */
  groups: number;
  samples: number;
  /** Sequences that the model is given at a time. */
  microBatch: number;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
export const problemsOf = (task: Task, count: number, random: Random) =>
  Array.from({ length: count }, () => task.draw(random));

/** Verified answers to each problem, as the batch of the model. */
function rolloutsOf(task: Task, problems: readonly Problem[], answers: readonly Answer[][]) {
  const perAnswer = <T>(of: (answer: Answer, g: number) => T) =>
    answers.map((some, g) => some.map((one) => of(one, g)));
  const rollouts = {
    promptIds: problems.map(({ prompt }) => encode(prompt)),
    answers: perAnswer(({ ids }) => ids),
    logProbs: perAnswer(({ logProbs }) => logProbs),
    rewards: perAnswer(({ ids }, g) => reward(problems[g]!, ids)),
  };
  return rlvr.fromRollouts(rollouts, { length: task.promptLength + task.maxAnswer, padding: 'right' });
}

/** Cross-entropy of right answers. */
export function* warmStart(model: Model, task: Task, random: Random) {
  for (let step = 1; ; step++) {
    const problems = problemsOf(task, 64, random);
    const idsOf = ({ answer }: Problem) => encode(`${answer}\n`);
    const right = problems.map(idsOf).map((ids): Answer[] => [{ ids, logProbs: ids.map(() => -1) }]); // of no sampler
    const batch = rolloutsOf(task, problems, right);
    const [result] = model.step(rlvr.crossEntropySync, [{ batch, options: {} }], 3e-3 * Math.min(1, step / 20));
    yield { warm: step, loss: result!.loss };
  }
}

/** The share of problems answered right, greedily and sampled. */
export function evaluate(model: Model, task: Task, problems: readonly Problem[], temperature: number, random: Random) {
  const accuracy = (heat: number) =>
    mean(answersOf(model, task, problems, heat, random).map(({ ids }, i) => reward(problems[i]!, ids)));
  return { greedy: accuracy(0), sampled: accuracy(temperature) };
}

/** RLVR. Each step: answers to some problems, their rewards, one update. */
export function* reinforce(model: Model, task: Task, settings: Settings, random: Random) {
  const { loss, groups, samples, temperature, microBatch, learningRate } = settings;
  for (let step = 1; ; step++) {
    const start = performance.now();
    const problems = problemsOf(task, groups, random);
    const each = problems.flatMap((problem) => new Array<Problem>(samples).fill(problem));
    const answers = answersOf(model, task, each, temperature, random);
    const rollouts = rolloutsOf(
      task,
      problems,
      problems.map((_, g) => answers.slice(g * samples, (g + 1) * samples)),
    );
    const sampled = performance.now();
    const options = { ...settings.options, temperature, entropy: true, expectOnPolicy: step === 1 };
    const parts = rlvr.microBatches(rollouts, { sequences: microBatch, loss, options });
    const results = model.step(rlvr.lossesSync[loss], parts, learningRate);
    const whole = {
      step,
      loss: results.reduce((sum, result) => sum + result.loss, 0),
      ...rlvr.mergeMetrics(parts, results),
    };
    yield { ...whole, sampleMs: sampled - start, updateMs: performance.now() - sampled };
  }
}
