// From times to figures: rates, and shares of the memory's speed in the same rounds.
import type { Row } from './report.js';
import type { Measurement } from './timing.js';

/** Seconds that a yardstick of these rounds takes per byte of one array: its fastest form, on any number of threads. */
function secondsPerByte(measurements: readonly Measurement[], kind: 'read' | 'copied'): number | null {
  const yardsticks = measurements.filter(({ contender: { by, moves } }) => by === 'memory' && moves[kind] > 0);
  if (yardsticks.length === 0) return null;
  return Math.min(
    ...yardsticks.map(({ contender, milliseconds }) => milliseconds.median / 1e3 / contender.moves[kind]),
  );
}

export function rowsOf(measurements: readonly Measurement[]): Row[] {
  const readTime = secondsPerByte(measurements, 'read');
  const copyTime = secondsPerByte(measurements, 'copied');
  return measurements.map(({ contender, error, milliseconds }) => {
    const { section, op, by, backend, threads, dtype, shape, moves, memoryBound } = contender;
    const seconds = milliseconds.median / 1e3;
    const bytes = moves.read + 2 * moves.copied + (moves.written ?? 0);
    const measurable = memoryBound && readTime !== null && copyTime !== null;
    return {
      section,
      op,
      by,
      backend,
      threads,
      dtype,
      shape,
      milliseconds,
      rowsPerSecond: shape.tokens / seconds,
      bytes,
      gigabytesPerSecond: bytes / seconds / 1e9,
      ofBandwidth: measurable ? (moves.read * readTime + moves.copied * copyTime) / seconds : null,
      error,
    };
  });
}
