// From times to figures: rates, and shares of what the memory or the arithmetic allowed in the same rounds.
import type { Row } from './report/report.js';
import type { Measurement } from './timing.js';

/** Who made the row of the arithmetic's yardstick. */
export const ARITHMETIC = 'arithmetic';

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

/** Seconds per operation of multiply-adds in registers; NaN where they were not measured. */
function arithmeticSpeed(measurements: readonly Measurement[]): number {
  const yardstick = measurements.find(({ contender: { by } }) => by === ARITHMETIC);
  if (!yardstick) return Number.NaN;
  return yardstick.milliseconds.median / 1e3 / (yardstick.contender.flops ?? Number.NaN);
}

export function rowsOf(measurements: readonly Measurement[]): Row[] {
  const perOperation = arithmeticSpeed(measurements);
  return measurements.map(({ contender, error, milliseconds, peakBytes }) => {
    const { section, op, by, backend, threads, dtype, shape, moves, memoryBound, flops } = contender;
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
      ...(flops !== undefined && { flops }),
      ...(flops !== undefined && perOperation > 0 && { ofPeak: (flops * perOperation) / seconds }),
      ...(peakBytes !== undefined && { peakBytes }),
      error,
    };
  });
}
