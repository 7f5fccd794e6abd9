// An async op leaves the event loop to others: while one of about a second runs, a timer of 10 ms ticks all the time, and
// what a call does on the main thread has pauses all over. Times are processor time of that thread, so that what other
// processes do at the same time does not count.
import { describe, expect, test } from 'vitest';
import { BACKENDS } from '../support/backends.js';
import { childJson } from './child.js';

const BUSY = `
import { readFileSync } from 'node:fs';
const busy = () => Number(readFileSync('/proc/self/task/' + process.pid + '/schedstat', 'utf8').split(' ')[0]) / 1e6;
`;

const LOGITS = `
const vocab = 151936;
function batchOf(tokens) {
  const logits = new Float32Array(tokens * vocab);
  for (let i = 0; i < vocab; i++) logits[i] = (i % 977) / 100;
  for (let filled = vocab; filled < logits.length; filled *= 2) logits.copyWithin(filled, 0, filled);
  const targets = new Int32Array(tokens).fill(7);
  const half = tokens / 2;
  return { logits, targets, cuSeqlens: Int32Array.of(0, half, tokens), cuGroups: Int32Array.of(0, 2), rewards: Float32Array.of(1, 0) };
}
`;

// The best of three: a virtual machine may count time that its host gave to another, but an op that holds the event loop does
// so every time.
const MEASURE = `${BUSY}
async function turns(op) {
  let longest = 0;
  let ticks = 0;
  let last = busy();
  const tick = () => {
    const now = busy();
    longest = Math.max(longest, now - last);
    last = now;
    ticks++;
  };
  const timer = setInterval(tick, 10);
  const start = performance.now();
  await op();
  const milliseconds = performance.now() - start;
  tick(); // the one that was due when the op ended
  clearInterval(timer);
  return { longest, ticks, milliseconds };
}
${LOGITS}
async function best(op) {
  const runs = [];
  for (let i = 0; i < 3 && !runs.some(({ longest }) => longest <= 20); i++) runs.push(await turns(op));
  return runs.sort((a, b) => a.longest - b.longest)[0];
}
`;

interface Turns {
  longest: number;
  ticks: number;
  milliseconds: number;
}

function expectOnTime({ longest, ticks, milliseconds }: Turns): void {
  expect(milliseconds).toBeGreaterThan(300); // else the test has measured nothing
  expect(longest).toBeLessThanOrEqual(20);
  expect(ticks).toBeGreaterThan(milliseconds / 31);
}

/**
 * What a call does on the main thread (checks, conversions, advantages, metrics, the kernels of the reference) has pauses all
 * over. A call looks at the clock wherever it can pause, so a clock that leaps at every look makes it pause everywhere, at the
 * same places in every run, and the stretch between two of them takes the shortest of its times in four runs. It is compared
 * with the same call under a clock that stands still, which never pauses: as a ratio, since machines differ. (A turn of the
 * event loop is 3 ms of such stretches.)
 */
async function expectPauses(call: string, setUp: string): Promise<void> {
  interface Stretches {
    counts: number[];
    longest: number; // milliseconds of processor time
    unpaused: number;
  }
  const { counts, longest, unpaused } = await childJson<Stretches>(`${BUSY}
    ${setUp}
    let [clock, leap, times] = [0, 0, []];
    performance.now = () => {
      if (leap > 0) times.push(busy());
      return (clock += leap);
    };
    async function stretches(milliseconds) {
      [leap, times] = [milliseconds, [busy()]];
      await ${call};
      times.push(busy());
      return times.slice(1).map((time, k) => time - times[k]);
    }
    await stretches(0); // loads what the others use
    const [unpaused] = await stretches(0);
    const runs = [];
    for (let i = 0; i < 4; i++) runs.push(await stretches(1000));
    const shortest = runs[0].map((_, k) => Math.min(...runs.map((run) => run[k])));
    const longest = shortest.reduce((a, b) => Math.max(a, b));
    console.log(JSON.stringify({ counts: runs.map((run) => run.length), longest, unpaused }));`);
  expect(new Set(counts).size).toBe(1); // else the stretches are not the same ones
  expect(counts[0]).toBeGreaterThan(50);
  expect(longest).toBeLessThan(unpaused / 10);
}

describe('event loop', () => {
  test('the measure sees a blocking op', async () => {
    const { longest } = await childJson<Turns>(`${MEASURE}
      const batch = batchOf(16);
      const blocking = async () => {
        await new Promise((resolve) => setTimeout(resolve, 30));
        rlvr.conspoSync(batch, { backend: 'reference' });
        await new Promise((resolve) => setTimeout(resolve, 30));
      };
      console.log(JSON.stringify(await turns(blocking)));`);
    expect(longest).toBeGreaterThan(20);
  });

  test('one op of a second on cpu', async () => {
    // The portable path is slow enough that one op takes a second with an ordinary amount of memory.
    const result = await childJson<Turns>(
      `${MEASURE}
      const batch = batchOf(6144);
      console.log(JSON.stringify(await best(() => rlvr.conspo(batch, { backend: 'cpu', gradient: 'none', entropy: true }))));`,
      { env: { RLVR_SIMD: 'portable', RLVR_THREADS: '2' } },
    );
    expectOnTime(result);
  });

  test('a second of ops on cpu, one after the other', async () => {
    const result = await childJson<Turns>(`${MEASURE}
      const batch = batchOf(256);
      const out = new Float32Array(batch.logits.length);
      const second = async () => {
        const end = performance.now() + 1000;
        while (performance.now() < end) await rlvr.conspo(batch, { backend: 'cpu', gradient: { out } });
      };
      console.log(JSON.stringify(await best(second)));`);
    expectOnTime(result);
  });

  test.each([
    ['conspo', 'cpu', 2 ** 10],
    ['grpo', 'cpu', 2 ** 10],
    ['grpo', 'cpu', 2 ** 20],
    ['disco', 'cpu', 2 ** 20],
    ['grpo', 'reference', 2 ** 12], // looks at the clock eight times per sequence
  ])('%s from 2^22 log-probs on %s, %i sequences', async (loss, backend, sequences) => {
    await expectPauses(
      `rlvr.${loss}(batch, options)`,
      `const tokens = 2 ** 22;
      const sequences = ${sequences};
      const logProbs = Float32Array.from({ length: tokens }, (_, t) => -(t % 97) / 10);
      const batch = {
        logProbs,
        oldLogProbs: logProbs.map((x) => x + 0.1),
        rolloutLogProbs: logProbs.map((x) => x - 0.1),
        refLogProbs: logProbs.map((x) => x + 0.2),
        mask: new Uint8Array(tokens).fill(1),
        cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, i) => (i * tokens) / sequences),
        cuGroups: Int32Array.from({ length: sequences / 8 + 1 }, (_, g) => 8 * g),
        rewards: Float32Array.from({ length: sequences }, (_, i) => i & 1),
      };
      const options = { backend: '${backend}', ...{
        conspo: { logProbs: true },
        grpo: { klCoef: 0.1, rolloutCorrection: {}, gradient: { out: new Float32Array(tokens) } },
        disco: { klConstraint: true },
      }.${loss} };`,
    );
  });

  const rows = { reference: 20, wasm: 80 }; // wasm works on one at a time
  test.each((['reference', 'wasm'] as const).filter((backend) => BACKENDS.includes(backend)))(
    'conspo from logits on %s',
    async (backend) => {
      await expectPauses(
        `rlvr.conspo(batch, { backend: '${backend}', gradient: 'in-place' })`,
        `process.env.RLVR_THREADS = '1'; ${LOGITS} const batch = batchOf(${rows[backend]});`,
      );
    },
  );
});
