// The two phases of training: imitation of right answers, then RLVR. One step each; what repeats them is run.ts.
import * as rlvr from 'rlvr-kernels';
import { type Adam, update } from './adam.js';
import { creditsOf } from './credit.js';
import type { Model, Part } from './model.js';
import { randomOf } from './random.js';
import { optionsAt, RECIPES } from './recipes.js';
import { type Answer, answersOf } from './sample.js';
import type { Settings } from './settings.js';
import { Stopwatch } from './stopwatch.js';
import { type Problem, problemsOf, reward, type Task } from './tasks.js';
import type { Weights } from './weights.js';

/** All that training changes. */
export interface State {
  weights: Weights;
  adam: Adam;
}

export interface Trainer {
  settings: Settings;
  task: Task;
  model: Model;
  state: State;
}

/** What each stream of random numbers is for, so that no two steps share one. */
const STREAM = { warm: 1, problems: 2, answers: 3, evaluation: 4 };

/** Verified answers to each problem, as the batch of the model. */
function rolloutsOf(task: Task, problems: readonly Problem[], answers: readonly Answer[][]) {
  const perAnswer = <T>(of: (answer: Answer, g: number) => T) =>
    answers.map((some, g) => some.map((one) => of(one, g)));
  const rollouts = {
    promptIds: problems.map(({ prompt }) => prompt),
    answers: perAnswer(({ ids }) => ids),
    logProbs: perAnswer(({ logProbs }) => logProbs),
    rewards: perAnswer(({ ids }, g) => reward(problems[g]!, ids)),
  };
  return rlvr.fromRollouts(rollouts, { length: task.promptLength + task.maxAnswer, padding: 'right' });
}

/** Forward, backward, and an update of the weights. */
function learn(
  { model, state }: Trainer,
  loss: rlvr.AnyLossSync,
  parts: readonly Part[],
  rate: number,
  watch: Stopwatch,
) {
  const timed: rlvr.AnyLossSync = (batch, options) => watch.time('kernels', () => loss(batch, options));
  return watch.time('model', () => {
    model.setWeights(state.weights);
    const { results, gradients } = model.pass(timed, parts);
    const gradientNorm = update(state.adam, state.weights, gradients, rate);
    return { results, gradientNorm };
  });
}

/** Cross-entropy of right answers. */
export function imitate(trainer: Trainer, step: number) {
  const { task, settings } = trainer;
  const watch = new Stopwatch();
  const problems = problemsOf(task, settings.warmBatch, randomOf(settings.seed, STREAM.warm, step));
  const right = problems.map(({ answers }): Answer[] => {
    return [{ ids: answers[0]!, logProbs: answers[0]!.map(() => -1) }]; // of no sampler
  });
  const batch = rolloutsOf(task, problems, right);
  const rate = settings.warmRate * Math.min(1, step / 20, (1.1 * settings.warm - step) / (0.5 * settings.warm));
  const { results } = learn(trainer, rlvr.crossEntropySync as rlvr.AnyLossSync, [{ batch, options: {} }], rate, watch);
  return { warm: step, loss: results[0]!.loss, ...watch.lap() };
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** RLVR: answers to some problems, their rewards, an update or some. */
export function reinforce(trainer: Trainer, step: number) {
  const { task, settings, model } = trainer;
  const { groups, samples, updates, temperature, rows } = settings;
  const { run, like, contrastive } = RECIPES[settings.loss]!;
  const watch = new Stopwatch();
  model.setWeights(trainer.state.weights);
  const problems = problemsOf(task, groups, randomOf(settings.seed, STREAM.problems, step));
  const each = problems.flatMap((problem) => new Array<Problem>(samples).fill(problem));
  const random = randomOf(settings.seed, STREAM.answers, step);
  const sampled = answersOf(model, task, each, { temperature, rows }, random, watch);
  const answers = problems.map((_, g) => sampled.slice(g * samples, (g + 1) * samples));

  const passes = Array.from({ length: updates }, (_, pass) => {
    const [from, to] = [pass, pass + 1].map((k) => Math.round((k * groups) / updates));
    const batch = rolloutsOf(task, problems.slice(from, to), answers.slice(from, to));
    const options = {
      ...optionsAt(settings.options, settings.margin, step / settings.steps),
      temperature,
      entropy: true,
      expectOnPolicy: pass === 0, // nothing was learned since these were sampled
    };
    const parts = rlvr.microBatches(batch, { sequences: rows, loss: like, options });
    const { results, gradientNorm } = learn(trainer, run, parts, settings.learningRate, watch);
    const loss = results.reduce((sum, result) => sum + result.loss, 0);
    const credits = results.flatMap(({ scores }, i) => {
      const { rewards, cuGroups } = parts[i]!.batch;
      return contrastive ? creditsOf(scores, rewards, cuGroups, options) : [];
    });
    return { parts, results, loss, gradientNorm, credits };
  });
  return {
    step,
    loss: mean(passes.map(({ loss }) => loss)),
    gradientNorm: mean(passes.map(({ gradientNorm }) => gradientNorm)),
    ...rlvr.mergeMetrics(
      passes.flatMap(({ parts }) => parts),
      passes.flatMap(({ results }) => results),
    ),
    ...(contrastive && { credits: passes.flatMap(({ credits }) => credits) }),
    answerLength: mean(sampled.map(({ ids }) => ids.length)),
    ...watch.lap(),
  };
}

export interface Evaluation {
  /** The share of problems answered right, taking the likeliest token each time. */
  greedy: number;
  /** The share of sampled answers that are right. */
  sampled: number;
  /** How likely one of k sampled answers is right, k being how many there are. */
  passAtK: number;
  /** Nats per token of the sampled answers: the mean of their negative log-probs. */
  heldOutEntropy: number;
}

/** On problems kept apart: the same ones, and the same random numbers, in every run of a task. */
export function evaluate({ model, task, settings, state }: Trainer): Evaluation {
  const { problems: count, answers: k, temperature, rows } = settings;
  const watch = new Stopwatch();
  model.setWeights(state.weights);
  const problems = problemsOf(task, count, randomOf(STREAM.evaluation), true);
  const each = problems.flatMap((problem) => new Array<Problem>(k).fill(problem));
  const random = randomOf(STREAM.evaluation, 1);
  const greedy = answersOf(model, task, problems, { temperature: 0, rows }, random, watch);
  const sampled = answersOf(model, task, each, { temperature, rows }, random, watch);
  const rewards = sampled.map(({ ids }, i) => reward(each[i]!, ids));
  const cuGroups = Array.from({ length: count + 1 }, (_, g) => g * k);
  return {
    greedy: mean(greedy.map(({ ids }, i) => reward(problems[i]!, ids))),
    sampled: mean(rewards),
    passAtK: rlvr.passAtK({ rewards, cuGroups }, { k }).mean,
    heldOutEntropy: -mean(sampled.flatMap(({ logProbs }) => logProbs)),
  };
}
