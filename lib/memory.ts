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

/** Numbers one after the other, those of arrays that may be missing. */
export function concatenated(name: string, arrays: readonly (ArrayLike<number> | undefined)[]): Float64Array {
  const length = arrays.reduce((sum, array) => sum + (array?.length ?? 0), 0);
  const all = newArray(name, Float64Array, length);
  let begin = 0;
  for (const array of arrays) {
    if (!array) continue;
    all.set(array, begin);
    begin += array.length;
  }
  return all;
}
