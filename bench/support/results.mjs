// From times to figures: rates, shares of the memory's speed in the same run, ratios to the peers.

/**
 * @typedef {import('./data.mjs').DType} DType
 * @typedef {import('./data.mjs').Shape} Shape
 * @typedef {import('./timing.mjs').Measurement} Measurement
 * @typedef {import('./timing.mjs').Spread} Spread
 * @typedef {object} Row
 * @property {string} by
 * @property {string} op
 * @property {DType} dtype
 * @property {Spread} milliseconds
 * @property {number} rowsPerSecond
 * @property {number} gigabytesPerSecond the bytes the op must move (a copy counts both ways) over the median
 * @property {number} percentOfMemory 100 where the op takes as long as reading and copying those bytes took in this run
 * @property {number | null} error relative, in the norm, against float64
 * @typedef {{ claim: string, value: number, unit: 'times' | 'percent' }} Comparison
 * @typedef {{ shape: Shape, slots: number, rows: Row[], comparisons: Comparison[] }} ShapeResult
 */

const OWN = 'rlvr-kernels';

/** @param {Measurement[]} measurements @param {string} op */
function secondsPerByte(measurements, op) {
  const found = measurements.find(({ contender }) => contender.by === 'memory' && contender.op === op);
  if (!found) throw new Error(`no ${op} in this run`);
  return found.milliseconds.median / 1e3 / found.contender.bytes;
}

/** @param {Shape} shape @param {number} slots @param {Measurement[]} measurements @returns {ShapeResult} */
export function summarize(shape, slots, measurements) {
  const readTime = secondsPerByte(measurements, 'read');
  const copyTime = secondsPerByte(measurements, 'copy');
  const rows = measurements.map(({ contender: { by, op, dtype, bytes, reads, copies }, error, milliseconds }) => {
    const seconds = milliseconds.median / 1e3;
    return {
      by,
      op,
      dtype,
      milliseconds,
      rowsPerSecond: shape.tokens / seconds,
      gigabytesPerSecond: (bytes * (reads + 2 * copies)) / seconds / 1e9,
      percentOfMemory: (100 * bytes * (reads * readTime + copies * copyTime)) / seconds,
      error,
    };
  });
  return { shape, slots, rows, comparisons: compare(rows) };
}

/** @param {Row[]} rows @returns {Comparison[]} */
function compare(rows) {
  const own = (/** @type {string} */ op, /** @type {DType} */ dtype) =>
    /** @type {Row} */ (rows.find((row) => row.by === OWN && row.op === op && row.dtype === dtype));
  /** @type {Comparison[]} */
  const comparisons = [];
  const times = (/** @type {string} */ claim, /** @type {Row} */ ours, /** @type {Row} */ theirs) =>
    comparisons.push({ claim, value: ours.rowsPerSecond / theirs.rowsPerSecond, unit: 'times' });
  const percent = (/** @type {string} */ claim, /** @type {Row} */ row) =>
    comparisons.push({ claim, value: row.percentOfMemory, unit: 'percent' });

  for (const theirs of rows.filter(({ by }) => by !== OWN && by !== 'memory')) {
    const op = theirs.op.startsWith('forward by') ? 'forward' : theirs.op;
    times(`${op} f32, against ${theirs.by} ${theirs.op}`, own(op, 'f32'), theirs);
  }
  percent('forward f32, of the read bandwidth', own('forward', 'f32'));
  percent('backward in place f32, of the copy bandwidth', own('backward in place', 'f32'));
  for (const dtype of /** @type {const} */ (['bf16', 'f16'])) {
    times(`forward ${dtype}, rows/s against f32`, own('forward', dtype), own('forward', 'f32'));
  }
  times('forward f32, against forward with entropy', own('forward', 'f32'), own('forward with entropy', 'f32'));
  return comparisons;
}
