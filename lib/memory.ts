// Memory for arrays. Where the system has none left, or there are no arrays so long, the error says for what.
import { RlvrError } from './errors.js';

/** What `make` returns, an array of so many elements; `name` says what it would hold. */
export function allocated<A>(name: string, elements: number, make: (elements: number) => A): A {
  try {
    return make(elements);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = `${name}: expected a size for which there is memory, got ${elements} elements`;
    throw new RlvrError('ERR_RANGE', message, { cause: error });
  }
}

/** A new array of zeros. */
export function newArray<A>(name: string, type: new (elements: number) => A, elements: number): A {
  return allocated(name, elements, () => new type(elements));
}
