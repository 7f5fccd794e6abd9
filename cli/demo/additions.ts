/**
 * The demo's verifiable task: additions of two digits, the answer written in base 5, digit by digit, and closed by an end
 * token. An answer is correct only if it is exact, so the reward needs no model. Correct answers have two or three tokens
 * and wrong ones up to `maxTokens`: lengths vary within a group, as those of real rollouts do. Base 5 because training starts
 * from nothing: a uniform policy finds a two-digit answer once in 6³ = 216 rollouts, in base 10 once in 1331.
 */
const base = 5;
export const endToken = base;
export const vocabularySize = base + 1;
export const maxTokens = 4;
export const operandCount = 10;

export interface Question {
  /** As a reader would write it: "7+8". */
  readonly name: string;
  readonly a: number;
  readonly b: number;
  /** The one correct answer, its end token included. */
  readonly answer: readonly number[];
}

/** All questions, in a fixed order. */
export function additions(): Question[] {
  const questions: Question[] = [];
  for (let a = 0; a < operandCount; a++) {
    for (let b = 0; b < operandCount; b++) {
      const digits = [...(a + b).toString(base)].map(Number);
      questions.push({ name: `${a}+${b}`, a, b, answer: [...digits, endToken] });
    }
  }
  return questions;
}

/** The verifier: 1 for the exact answer, 0 for anything else (an answer without its end token included). */
export function verify(question: Question, tokens: ArrayLike<number>): number {
  if (tokens.length !== question.answer.length) return 0;
  return question.answer.every((token, t) => token === tokens[t]) ? 1 : 0;
}
