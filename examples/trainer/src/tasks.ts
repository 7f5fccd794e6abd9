// Tasks with exact verifiers: prompts and answers in ASCII, an answer ends with a newline.
import type { Random } from './random.js';

export const VOCAB = 128;
export const END = 10; // the newline

export interface Problem {
  prompt: string;
  answer: string;
}

export interface Task {
  /** Characters of every prompt. */
  promptLength: number;
  /** The most characters of an answer, with its newline. */
  maxAnswer: number;
  draw(random: Random): Problem;
}

const numbersBelow = (limit: number, count: number, random: Random) =>
  Array.from({ length: count }, () => Math.floor(limit * random()));

/** `07+58=` is answered by `65`. */
function add2(random: Random): Problem {
  const numbers = numbersBelow(100, 2, random);
  const prompt = `${numbers.map((number) => String(number).padStart(2, '0')).join('+')}=`;
  return { prompt, answer: `${numbers[0]! + numbers[1]!}` };
}

/** `37055372>` is answered by its distinct digits in order, `02357`. */
function sort8(random: Random): Problem {
  const digits = numbersBelow(10, 8, random);
  return { prompt: `${digits.join('')}>`, answer: [...new Set(digits)].sort().join('') };
}

export const TASKS: Readonly<Record<string, Task>> = {
  add2: { promptLength: 6, maxAnswer: 4, draw: add2 },
  sort8: { promptLength: 9, maxAnswer: 9, draw: sort8 },
};

export const encode = (text: string): number[] => [...Buffer.from(text, 'latin1')];

/** The verifier: 1 for exactly the answer and a newline, else 0. */
export const reward = ({ answer }: Problem, ids: readonly number[]): number =>
  Buffer.from(ids).toString('latin1') === `${answer}\n` ? 1 : 0;
