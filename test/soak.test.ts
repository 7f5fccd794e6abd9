// What `npm run soak` does for a long time, for a short one; and what it judges.
import { expect, test } from 'vitest';
import { load } from '../cli/dev/soak/load.js';
import { judgeGrowth, MOST_GROWTH } from '../cli/dev/soak/memory.js';

const at = (heapUsed: number) => ({ heapUsed, external: 1e6, rss: 1e8 });

test('calls memory that grows by what it must not', () => {
  const flat = [at(5e6), at(9e6), at(5e6), at(5e6), at(5e6), at(6e6), at(5e6), at(9e6), at(5e6)]; // two bad moments
  expect(judgeGrowth(flat).grown).toEqual([]);
  const leak = flat.map((_, i) => at(5e6 + (i * MOST_GROWTH.heapUsed) / 5));
  expect(judgeGrowth(leak).grown).toEqual(['heapUsed']);
});

test('makes as many calls as it is asked to, some of them aborted', async () => {
  const run = await load(3);
  const { done, aborted, faults } = await run(120);
  expect({ calls: done + aborted, faults }).toEqual({ calls: 120, faults: [] });
  expect(aborted).toBeGreaterThan(0);
  expect(done).toBeGreaterThan(60);
});
