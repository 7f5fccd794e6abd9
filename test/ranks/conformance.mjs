// What every communicator must do, as plain JavaScript: the ranks that run it are threads of the tests, workers, or processes under mpirun.
// Each rank knows what all of them give, so each works out what must come back, and returns what did not.

/** @typedef {import('../../lib/ranks/communicator.js').Communicator} Communicator */

// Of in-process slots (4096 numbers): none, less than one, one, a few with a rest.
const LENGTHS = [0, 1, 5, 4095, 4096, 4097, 12_300];

const SPECIAL = [0, -0, Number.NaN, Infinity, -Infinity, 5e-324, -1e308, 1e16, 1];

/** Numbers of a rank: any magnitude, so that sums depend on their order. @param {number} rank @param {number} length */
function numbers(rank, length) {
  return Float64Array.from({ length }, (_, i) => Math.sin(1 + i + 100 * rank) * 10 ** ((i + 7 * rank) % 20));
}

/** Every pair of special values meets. @param {number} rank */
function special(rank) {
  const { length } = SPECIAL;
  return Float64Array.from(
    { length: length * length },
    (_, i) => SPECIAL[(rank % 2 === 0 ? i : Math.floor(i / length)) % length],
  );
}

/** @param {Float64Array[]} lists @param {(a: number, b: number) => number} fold */
function folded(lists, fold) {
  return lists[0].map((_, i) => lists.map((list) => list[i]).reduce(fold));
}

/** @param {Float64Array} values @param {Float64Array} expected @param {boolean} exact */
function differs(values, expected, exact) {
  if (!(values instanceof Float64Array) || values.length !== expected.length) return `${values.length} values`;
  const scale = 1e-14 * Math.max(...expected.filter(Number.isFinite).map(Math.abs), 0);
  const wrong = expected.findIndex(
    (x, i) => !Object.is(values[i], x) && (exact || !(Math.abs(values[i] - x) <= scale)),
  );
  return wrong === -1 ? undefined : `${values[wrong]} instead of ${expected[wrong]} at ${wrong}`;
}

/** @typedef {(values: Float64Array, operation: 'sum' | 'max') => Promise<Float64Array> | Float64Array} Reduce */
/** @typedef {(values: Float64Array) => Promise<Float64Array[]> | Float64Array[]} Gather */

/** The calls of one form. @param {Communicator} comm @param {boolean} sync @returns {{ reduce: Reduce, gather: Gather }} */
function calls(comm, sync) {
  return sync
    ? { reduce: (v, o) => comm.allReduceSync(v, o), gather: (v) => comm.allGatherSync(v) }
    : { reduce: (v, o) => comm.allReduce(v, o), gather: (v) => comm.allGather(v) };
}

/**
 * @param {Communicator} comm
 * @param {{ sync: boolean, rankOrder: boolean }} how in which form, and whether sums are added up in the order of the ranks
 * @returns {Promise<string[]>} what was wrong
 */
export async function conformance(comm, { sync, rankOrder }) {
  const { rank, size } = comm;
  const { reduce, gather } = calls(comm, sync);
  const ranks = Array.from({ length: size }, (_, r) => r);
  /** @type {string[]} */
  const wrong = [];
  /** @param {string} what @param {string | undefined} difference */
  const note = (what, difference) => difference && wrong.push(`rank ${rank} of ${size}, ${what}: ${difference}`);

  /** @param {string} what @param {(rank: number) => Float64Array} of */
  const reductions = async (what, of) => {
    const all = ranks.map(of);
    const sums = of(rank);
    if ((await reduce(sums, 'sum')) !== sums) note(`sum of ${what}`, 'another array');
    note(
      `sum of ${what}`,
      differs(
        sums,
        folded(all, (a, b) => a + b),
        rankOrder,
      ),
    );
    note(
      `maximum of ${what}`,
      differs(
        await reduce(of(rank), 'max'),
        folded(all, (a, b) => Math.max(a, b)),
        true,
      ),
    );
    const bits = new Float64Array(new BigUint64Array(sums.buffer.slice(0)).length);
    bits.set(sums);
    for (const [r, other] of (await gather(bits)).entries())
      note(`bits of ${what} on rank ${r}`, differs(other, sums, true));
  };
  for (const length of LENGTHS) await reductions(`${length} numbers`, (r) => numbers(r, length));
  await reductions('special values', special);
  await reductions('zeros of both signs', (r) => Float64Array.of(-0, r === 0 ? 0 : -0, 0));

  for (const length of LENGTHS) {
    const lists = await gather(numbers(rank, length * (rank % 3)));
    if (lists.length !== size) note('allGather', `${lists.length} lists`);
    for (const r of ranks) note(`allGather of rank ${r}`, differs(lists[r], numbers(r, length * (r % 3)), true));
  }
  return wrong;
}

/**
 * Calls that cannot work, of which all ranks must hear, and after which the next call works.
 * @param {Communicator} comm @param {boolean} sync
 * @returns {Promise<string[]>} the errors, as texts
 */
export async function mistakes(comm, sync) {
  const { rank, size } = comm;
  const { reduce, gather } = calls(comm, sync);
  const last = rank === size - 1;
  /** @type {string[]} */
  const errors = [];
  /** @param {() => unknown} call */
  const failing = async (call) => {
    try {
      await call();
      errors.push('accepted');
    } catch (error) {
      const { code, message } = /** @type {{ code: string, message: string }} */ (error);
      errors.push(`${code} ${message}`);
    }
    const [count] = await reduce(Float64Array.of(1), 'sum');
    if (count !== size) errors.push(`then ${count} ranks`);
  };
  await failing(() => reduce(new Float64Array(last ? 4 : 3), 'sum'));
  await failing(() => reduce(new Float64Array(3), last ? 'max' : 'sum'));
  await failing(() => (last ? gather(new Float64Array(3)) : reduce(new Float64Array(3), 'max')));
  await failing(() =>
    reduce(/** @type {Float64Array} */ (/** @type {unknown} */ (last ? [1, 2] : new Float64Array(2))), 'max'),
  );
  await failing(() => reduce(new Float64Array(2), /** @type {'sum'} */ (last ? 'min' : 'sum')));
  await failing(() =>
    gather(/** @type {Float64Array} */ (/** @type {unknown} */ (last ? undefined : new Float64Array(2)))),
  );
  return errors;
}

/** What {@link mistakes} must return. @param {number} rank @param {number} size */
export function expectedMistakes(rank, size) {
  const [own, last] = [rank, size - 1];
  const refused = `ERR_RANK rank ${last} of ${size} refused its arguments; its own error says which`;
  /** @param {string} there @param {string} here */
  const unlike = (there, here) =>
    own === last
      ? `ERR_RANK rank 0 of ${size} called ${here}, while rank ${last} called ${there}`
      : `ERR_RANK rank ${last} of ${size} called ${there}, while rank ${own} called ${here}`;
  return [
    `ERR_SHAPE values: expected the same length on every rank, got 3 on rank 0 and 4 on rank ${last}`,
    unlike("allReduce 'max'", "allReduce 'sum'"),
    unlike('allGather', "allReduce 'max'"),
    own === last ? 'ERR_DTYPE values: expected Float64Array, got an Array of length 2' : refused,
    own === last ? `ERR_RANGE operation: expected 'sum' or 'max', got "min"` : refused,
    own === last ? 'ERR_DTYPE values: expected Float64Array, got undefined' : refused,
  ];
}

/** What a call throws or rejects with. @param {() => unknown} call */
export async function failure(call) {
  try {
    await call();
    return 'accepted';
  } catch (error) {
    const { code, message } = /** @type {{ code: string, message: string }} */ (error);
    return `${code} ${message}`;
  }
}
