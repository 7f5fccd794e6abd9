// The backends that every op and loss is tested on. REQUIRE_BACKENDS lists the ones whose absence fails the run;
// TEST_BACKENDS limits the tests to some.
import { describe, expect, test } from 'vitest';
import { type BackendName, backends } from '../../lib/index.js';

const wanted = process.env.TEST_BACKENDS?.split(',');
const available = backends().filter((info) => info.available && (wanted?.includes(info.name) ?? true));

export const BACKENDS: BackendName[] = available.map((info) => info.name).reverse(); // reference first

/** One suite for every backend present, and a failing test for each required one that is not. */
export function describeBackends(
  name: string,
  suite: (backend: BackendName) => void,
  has: (backend: BackendName) => boolean = () => true,
): void {
  const required = (process.env.REQUIRE_BACKENDS ?? '').split(',').filter(Boolean) as BackendName[];
  for (const backend of required.filter((wanted) => has(wanted) && !BACKENDS.includes(wanted))) {
    test(`${name} on ${backend}`, () => {
      expect.fail(`required backend ${backend} is absent: ${backends().find((info) => info.name === backend)?.reason}`);
    });
  }
  describe.each(BACKENDS.filter(has))(`${name} on %s`, suite);
}
