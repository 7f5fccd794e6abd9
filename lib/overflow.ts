// Results that are not finite though every argument was: beyond the range of a double, of no use to anybody.
import { badArgument } from './errors.js';
import { findIndex, type Sliced } from './slices.js';
import { allFinite } from './validate.js';

const EXPECTED = 'a finite result of finite arguments';

/** Throws unless every number of every result is finite, naming the first; `causes` says which arguments may be to blame. */
export function* finiteResults(
  results: Record<string, Float64Array | number | undefined>,
  causes: string,
): Sliced<void> {
  for (const name in results) {
    const result = results[name];
    if (result === undefined) continue;
    if (typeof result === 'number') finiteResult(name, result, causes);
    else if (!(yield* allFinite(result))) {
      const index = yield* findIndex(result.length, (i) => !Number.isFinite(result[i]));
      throw badArgument('ERR_NONFINITE', name, EXPECTED, `${result[index]} at index ${index}: ${causes}`);
    }
  }
}

/** As {@link finiteResults}, of one number. */
export function finiteResult(name: string, result: number, causes: string): void {
  if (!Number.isFinite(result)) throw badArgument('ERR_NONFINITE', name, EXPECTED, `${result}: ${causes}`);
}
