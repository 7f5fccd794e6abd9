import { maxTokens, operandCount, type Question, vocabularySize } from './additions.js';

/** Embedding rows that one context adds up: first operand, second operand, position, previous token. */
export const featuresPerContext = 4;
const secondOperandRow = operandCount;
const positionRow = 2 * operandCount;
const previousTokenRow = positionRow + maxTokens;
/** At the first position there is no previous token; that has a row of its own. */
const noToken = vocabularySize;
export const embeddingRows = previousTokenRow + vocabularySize + 1;

/**
 * What the policy sees before it writes a token. Rollouts of one question share most of their contexts (all of them the
 * first), so each distinct one is kept, and computed, once.
 */
export class Contexts {
  readonly #indices = new Map<number, number>();
  readonly #features: number[] = [];

  /** The index of a context, new or known. */
  add(question: Question, position: number, previousToken = noToken): number {
    const rows = [question.a, secondOperandRow + question.b, positionRow + position, previousTokenRow + previousToken];
    const key = rows.reduce((prefix, row) => prefix * embeddingRows + row, 0);
    let index = this.#indices.get(key);
    if (index === undefined) {
      index = this.#indices.size;
      this.#indices.set(key, index);
      this.#features.push(...rows);
    }
    return index;
  }

  /** The embedding rows of every distinct context: [U, featuresPerContext]. */
  features(): Int32Array {
    return Int32Array.from(this.#features);
  }
}
