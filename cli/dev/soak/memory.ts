// Whether memory stays flat, from readings over time.
import type { Reading } from '../records.js';

/** How much a reading may be above an earlier one, in bytes: less than a hundredth of what the calls between them allocate. */
export const MOST_GROWTH: Readonly<Reading> = { heapUsed: 4e6, external: 2e6, rss: 64e6 };

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Needs --expose-gc. */
export async function reading(): Promise<Reading> {
  const collect = (globalThis as { gc?: () => void }).gc;
  if (!collect) throw new Error('start with --expose-gc');
  for (let i = 0; i < 4; i++) {
    collect();
    await turn();
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heapUsed, external, rss };
}

const KEYS = ['heapUsed', 'external', 'rss'] as const;

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** The median of each figure. */
function middle(readings: readonly Reading[]): Reading {
  const [heapUsed, external, rss] = KEYS.map((key) => median(readings.map((one) => one[key])));
  return { heapUsed, external, rss };
}

export interface Judged {
  before: Reading;
  after: Reading;
  /** Figures that grew by more than they may. */
  grown: string[];
}

/** The first third of the readings against the last: a single one may be of a bad moment. */
export function judgeGrowth(readings: readonly Reading[]): Judged {
  const third = Math.max(1, Math.floor(readings.length / 3));
  const [before, after] = [middle(readings.slice(0, third)), middle(readings.slice(-third))];
  const grown = KEYS.filter((key) => after[key] - before[key] > MOST_GROWTH[key]);
  return { before, after, grown };
}
