// Answers of a model, with the log-probs that they were sampled with.
import { sampleTokensSync } from 'rlvr-kernels';
import type { Model } from './model.js';
import type { Random } from './random.js';
import { END, encode, type Problem, type Task } from './tasks.js';

export interface Answer {
  ids: number[];
  logProbs: number[];
}

/** An answer to each problem. Temperature 0: the likeliest token each time. */
export function answersOf(model: Model, task: Task, problems: readonly Problem[], temperature: number, random: Random) {
  const seed = Math.floor(random() * 2 ** 32);
  const answers = problems.map((): Answer => ({ ids: [], logProbs: [] }));
  const ended = ({ ids }: Answer) => ids.at(-1) === END;
  for (let length = task.promptLength; length < task.promptLength + task.maxAnswer; length++) {
    const ids = new Int32Array(problems.length * length); // ended ones too: few shapes to compile
    answers.forEach((answer, i) => {
      ids.set([...encode(problems[i]!.prompt), ...answer.ids], i * length);
    });
    if (answers.every(ended)) break;
    const logits = model.next(ids, problems.length, length);
    const drawn = sampleTokensSync({ logits, vocab: model.shape.vocab }, { temperature, seed, offset: ids.length });
    answers.forEach((answer, i) => {
      if (ended(answer)) return;
      answer.ids.push(drawn.ids[i]!);
      answer.logProbs.push(drawn.logProbs[i]!);
    });
  }
  return answers;
}
