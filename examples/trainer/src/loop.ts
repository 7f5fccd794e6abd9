// The two phases of training: imitation of right answers, then RLVR. One step each; what repeats them is run.ts.
import * as rlvr from 'rlvr-kernels';
import { type Adam, update } from './adam.js';
import { creditsOf } from './credit.js';
import type { Model, Part } from './model.js';
import { below, randomOf } from './random.js';
import { addedUp, meanOf, shareOf } from './ranks.js';
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
  /** Those that train together; undefined for one process by itself. */
  ranks?: rlvr.Communicator | undefined;
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
  { model, state, ranks }: Trainer,
  loss: rlvr.AnyLossSync,
  parts: readonly Part[],
  rate: number,
  watch: Stopwatch,
) {
  const timed: rlvr.AnyLossSync = (batch, options) => watch.time('kernels', () => loss(batch, options));
  return watch.time('model', () => {
    model.setWeights(state.weights);
    const { results, gradients } = model.pass(timed, parts);
    const gradientNorm = update(state.adam, state.weights, addedUp(gradients, ranks), rate);
    return { results, gradientNorm };
  });
}

/** Cross-entropy of right answers. */
export function imitate(trainer: Trainer, step: number) {
  const { task, settings, ranks } = trainer;
  const watch = new Stopwatch();
  const drawn = problemsOf(task, settings.warmBatch, randomOf(settings.seed, STREAM.warm, step));
  const problems = drawn.slice(...shareOf(0, drawn.length, ranks));
  const right = problems.map(({ answers }): Answer[] => {
    return [{ ids: answers[0]!, logProbs: answers[0]!.map(() => -1) }]; // of no sampler
  });
  const batch = rolloutsOf(task, problems, right);
  const rate = settings.warmRate * Math.min(1, step / 20, (1.1 * settings.warm - step) / (0.5 * settings.warm));
  const { results } = learn(
    trainer,
    rlvr.crossEntropySync as rlvr.AnyLossSync,
    [{ batch, options: among(ranks) }],
    rate,
    watch,
  );
  return { warm: step, loss: results[0]!.loss, ...watch.lap() };
}

/** The option of losses whose batch is of all ranks. */
const among = (ranks: rlvr.Communicator | undefined) => (ranks ? { parallel: { data: ranks } } : {});

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** RLVR: answers to some problems, their rewards, an update or some. */
export function reinforce(trainer: Trainer, step: number) {
  const { task, settings, model, ranks } = trainer;
  const { groups, samples, updates, temperature, rows } = settings;
  const { run, like, contrastive } = RECIPES[settings.loss]!;
  const watch = new Stopwatch();
  model.setWeights(trainer.state.weights);
  const problems = problemsOf(task, groups, randomOf(settings.seed, STREAM.problems, step));
  const seed = below(2 ** 32, randomOf(settings.seed, STREAM.answers, step));
  const answersTo = (from: number, to: number) => {
    const each = problems.slice(from, to).flatMap((problem) => new Array<Problem>(samples).fill(problem));
    const draws = { seed, first: from * samples, of: groups * samples };
    const sampled = answersOf(model, task, each, { temperature, rows }, draws, watch);
    return Array.from({ length: to - from }, (_, g) => sampled.slice(g * samples, (g + 1) * samples));
  };
  const shares = Array.from({ length: updates }, (_, pass) => {
    const [from, to] = [pass, pass + 1].map((k) => Math.round((k * groups) / updates)) as [number, number];
    const share = shareOf(from, to, ranks);
    return { problems: problems.slice(...share), answers: answersTo(...share) };
  });

  const passes = shares.map(({ problems, answers }, pass) => {
    const batch = rolloutsOf(task, problems, answers);
    const options = {
      ...among(ranks),
      ...optionsAt(settings.options, settings.margin, step / settings.steps),
      temperature,
      entropy: true,
      expectOnPolicy: pass === 0, // nothing was learned since these were sampled
    };
    const parts = ranks ? [{ batch, options }] : rlvr.microBatches(batch, { sequences: rows, loss: like, options });
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
    answerLength: meanOf(
      shares.flatMap(({ answers }) => answers.flat().map(({ ids }) => ids.length)),
      ranks,
    ),
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
  const draws = (of: number) => ({ seed: STREAM.evaluation, first: 0, of });
  const greedy = answersOf(model, task, problems, { temperature: 0, rows }, draws(problems.length), watch);
  const sampled = answersOf(model, task, each, { temperature, rows }, draws(each.length), watch);
  const rewards = sampled.map(({ ids }, i) => reward(each[i]!, ids));
  const cuGroups = Array.from({ length: count + 1 }, (_, g) => g * k);
  return {
    greedy: mean(greedy.map(({ ids }, i) => reward(problems[i]!, ids))),
    sampled: mean(rewards),
    passAtK: rlvr.passAtK({ rewards, cuGroups }, { k }).mean,
    heldOutEntropy: -mean(sampled.flatMap(({ logProbs }) => logProbs)),
  };
}
