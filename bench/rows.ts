// From times to figures: rates, and shares of the memory bandwidth in the same rounds.
import type { Row } from './report/report.js';
import type { Measurement } from './timing.js';

/**
 * Seconds per byte of one array, by the fastest yardstick of these rounds in the memory that `backend` works on, with any
 * number of threads. On a device, where only copies are measured, reading is taken as half a copy.
 */
function memorySpeed(measurements: readonly Measurement[], backend: Row['backend']) {
  const onDevice = backend === 'cuda';
  const yardsticks = measurements.filter(({ contender: { by, backend: of } }) => {
    return by === 'memory' && (of === 'cuda') === onDevice;
  });
  const best = (kind: 'read' | 'copied') => {
    const some = yardsticks.filter(({ contender: { moves } }) => moves[kind] > 0);
    return Math.min(...some.map(({ contender, milliseconds }) => milliseconds.median / 1e3 / contender.moves[kind]));
  };
  const copied = best('copied');
  return { read: onDevice ? copied / 2 : best('read'), copied };
}

export function rowsOf(measurements: readonly Measurement[]): Row[] {
  return measurements.map(({ contender, error, milliseconds }) => {
    const { section, op, by, backend, threads, dtype, shape, moves, memoryBound } = contender;
    const seconds = milliseconds.median / 1e3;
    const bytes = moves.read + 2 * moves.copied + (moves.written ?? 0);
    const memory = memorySpeed(measurements, backend);
    const share = (moves.read * memory.read + moves.copied * memory.copied) / seconds;
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
      ofBandwidth: memoryBound && Number.isFinite(share) ? share : null, // not where there is no yardstick
      error,
    };
  });
}
