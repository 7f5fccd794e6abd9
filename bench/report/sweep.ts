import type { Comparison } from './report.js';

/** Only so many lines of a sweep: the slowest shapes, which are the ones in question. */
const SWEEP_LINES = 20;

/** Slowest first. */
export function sweepLines(comparisons: readonly Comparison[]): { counts: string; slowest: readonly Comparison[] } {
  const sorted = [...comparisons].sort((a, b) => a.value - b.value);
  const slower = sorted.filter(({ value, interval }) => (interval?.[1] ?? value) < 1).length;
  const counts = `${sorted.length} measured, ${slower} slower than the reference backend beyond chance`;
  return { counts, slowest: sorted.slice(0, SWEEP_LINES) };
}
