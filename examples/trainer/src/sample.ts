// Answers of a model, with the log-probs that they were sampled with.
import type { Model } from './model.js';
import type { Random } from './random.js';
import { END, encode, type Problem, type Task } from './tasks.js';

export interface Answer {
  ids: number[];
  logProbs: number[];
}

/** An answer to each problem. Temperature 0: the likeliest token each time. */
export function answersOf(model: Model, task: Task, problems: readonly Problem[], temperature: number, random: Random) {
  const { vocab } = model.shape;
  const answers = problems.map((): Answer => ({ ids: [], logProbs: [] }));
  const ended = ({ ids }: Answer) => ids.at(-1) === END;
  for (let length = task.promptLength; length < task.promptLength + task.maxAnswer; length++) {
    const ids = new Int32Array(problems.length * length); // ended ones too: few shapes to compile
    answers.forEach((answer, i) => {
      ids.set([...encode(problems[i]!.prompt), ...answer.ids], i * length);
    });
    if (answers.every(ended)) break;
    const logits = model.next(ids, problems.length, length);
    answers.forEach((answer, i) => {
      if (ended(answer)) return;
      const [id, logProb] = drawToken(logits.subarray(i * vocab, (i + 1) * vocab), temperature, random);
      answer.ids.push(id);
      answer.logProbs.push(logProb);
    });
  }
  return answers;
}

/** A token of softmax(logits / temperature), and its log-prob. */
function drawToken(logits: Float32Array, temperature: number, random: Random): [id: number, logProb: number] {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  if (temperature === 0) return [logits.indexOf(max), 0];
  let sum = 0;
  const cumulated = Float64Array.from(logits, (logit) => {
    sum += Math.exp((logit - max) / temperature);
    return sum;
  });
  const at = sum * random();
  const id = cumulated.findIndex((upTo) => upTo > at);
  return [id, (logits[id]! - max) / temperature - Math.log(sum)];
}
