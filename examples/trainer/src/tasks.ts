// Tasks with exact verifiers. A problem is a prompt of a fixed length in the symbols of its task; an answer ends with the first symbol.
import { type Pronounced, pronunciations } from './phonemes.js';
import { below, hashOf, type Random } from './random.js';

export interface Problem {
  text: string;
  prompt: number[];
  /** The right answers, each with its end; the first is the one to imitate. */
  answers: number[][];
}

export interface Task {
  /** What each id stands for. */
  symbols: readonly string[];
  /** Symbols of every prompt. */
  promptLength: number;
  /** The most symbols of an answer, with its end. */
  maxAnswer: number;
  /** A problem to train on, or one of those that are kept apart: which it is, its text decides. */
  draw(random: Random, heldOut: boolean): Problem;
}

export const END = 0;
const SHARE_HELD_OUT = 1 / 8;

interface Plain {
  prompt: readonly string[];
  answers: readonly (readonly string[])[];
}

function task(
  symbols: string[],
  sizes: Pick<Task, 'promptLength' | 'maxAnswer'>,
  draw: (random: Random) => Plain,
): Task {
  const ids = new Map(symbols.map((symbol, id) => [symbol, id]));
  const encode = (text: readonly string[]) => text.map((symbol) => ids.get(symbol)!);
  return {
    symbols,
    ...sizes,
    draw(random, heldOut) {
      for (;;) {
        const { prompt, answers } = draw(random);
        const text = prompt.join('');
        if (hashOf(text) / 2 ** 32 < SHARE_HELD_OUT !== heldOut) continue;
        return { text, prompt: encode(prompt), answers: answers.map((answer) => [...encode(answer), END]) };
      }
    },
  };
}

const DIGITS = [...'0123456789'];

/** `07+58=` is answered by `65`. */
function addition(digits: number): Task {
  const sizes = { promptLength: 2 * digits + 2, maxAnswer: digits + 2 };
  return task(['\n', ...DIGITS, '+', '='], sizes, (random) => {
    const numbers = [0, 1].map(() => below(10 ** digits, random));
    const prompt = `${numbers.map((number) => String(number).padStart(digits, '0')).join('+')}=`;
    return { prompt: [...prompt], answers: [[...String(numbers[0]! + numbers[1]!)]] };
  });
}

/** `37055372>` is answered by its digits in order, `02335577`. */
function sorting(length: number): Task {
  return task(['\n', ...DIGITS, '>'], { promptLength: length + 1, maxAnswer: length + 1 }, (random) => {
    const digits = Array.from({ length }, () => String(below(10, random)));
    return { prompt: [...digits, '>'], answers: [digits.toSorted()] };
  });
}

/** `...cloud>` is answered by K L AW D: the words of the CMU Pronouncing Dictionary, stress left out. */
function phonemes(longest: number): Task {
  const words = pronunciations(longest);
  const sounds = [...new Set(words.flatMap(({ sounds }) => sounds.flat()))].sort();
  const symbols = ['\n', '.', '>', ...'abcdefghijklmnopqrstuvwxyz', ...sounds];
  const draw = (random: Random): Plain => {
    const { word, sounds }: Pronounced = words[below(words.length, random)]!;
    return { prompt: [...word.padStart(longest, '.'), '>'], answers: sounds };
  };
  return task(symbols, { promptLength: longest + 1, maxAnswer: longest + 1 }, draw);
}

export const TASKS = {
  add2: () => addition(2),
  add3: () => addition(3),
  sort8: () => sorting(8),
  phonemes: () => phonemes(6),
} satisfies Record<string, () => Task>;

export type TaskName = keyof typeof TASKS;

/** The verifier: 1 for exactly a right answer and its end, else 0. */
export const reward = ({ answers }: Problem, ids: readonly number[]): number =>
  answers.some((answer) => answer.length === ids.length && answer.every((id, i) => id === ids[i])) ? 1 : 0;

export const problemsOf = (task: Task, count: number, random: Random, heldOut = false): Problem[] =>
  Array.from({ length: count }, () => task.draw(random, heldOut));
