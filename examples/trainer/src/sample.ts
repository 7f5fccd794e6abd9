// Answers of a model, with the log-probs that they were sampled with.
import { sampleTokensSync } from 'rlvr-kernels';
import type { Model } from './model.js';
import type { Stopwatch } from './stopwatch.js';
import { END, type Problem, type Task } from './tasks.js';

export interface Answer {
  ids: number[];
  logProbs: number[];
}

export interface Sampling {
  /** 0: the likeliest token each time. */
  temperature: number;
  /** Rows that the model is given at a time. */
  rows: number;
}

/** Which of all draws of a step these are: a row's do not depend on the other rows, nor on who draws for them. */
export interface Draws {
  seed: number;
  /** The first row among all. */
  first: number;
  /** How many rows there are in all. */
  of: number;
}

const ended = ({ ids }: Answer) => ids.at(-1) === END;

function sampleRows(
  model: Model,
  task: Task,
  problems: readonly Problem[],
  temperature: number,
  { seed, first, of }: Draws,
  watch: Stopwatch,
) {
  const answers = problems.map((): Answer => ({ ids: [], logProbs: [] }));
  const generation = model.generate(problems.length);
  let ids: Int32Array = Int32Array.from(problems.flatMap(({ prompt }) => prompt));
  for (let offset = 0; offset < task.maxAnswer && !answers.every(ended); offset++) {
    const logits = watch.time('sampling', () => generation.feed(ids, ids.length / problems.length));
    const options = { temperature, seed, offset: offset * of + first };
    const drawn = watch.time('kernels', () => sampleTokensSync({ logits, vocab: model.shape.vocab }, options));
    answers.forEach((answer, i) => {
      if (ended(answer)) return; // its row goes on, unread: rows stay together
      answer.ids.push(drawn.ids[i]!);
      answer.logProbs.push(drawn.logProbs[i]!);
    });
    ids = drawn.ids;
  }
  generation.end();
  return answers;
}

/** An answer to each problem. */
export function answersOf(
  model: Model,
  task: Task,
  problems: readonly Problem[],
  { temperature, rows }: Sampling,
  { seed, first, of }: Draws,
  watch: Stopwatch,
): Answer[] {
  const begins = Array.from({ length: Math.ceil(problems.length / rows) }, (_, i) => i * rows);
  return begins.flatMap((begin) => {
    const part = problems.slice(begin, begin + rows);
    return sampleRows(model, task, part, temperature, { seed, first: first + begin, of }, watch);
  });
}
