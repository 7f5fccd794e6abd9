// The section `threads`: the token level and the memory on one thread, two, and so on.
import { benchAddon } from '../problems/addon.js';
import type { TokenShape } from '../problems/data.js';
import { formatShape } from '../report/figures.js';
import type { Comparison } from '../report/report.js';
import type { Contender } from '../timing.js';
import { Claims, type Measured } from './comparisons.js';
import type { Experiment, Omission, Plan } from './experiment.js';
import { BenchMemory } from './memory.js';
import { TOKEN_OPS, type TokenOp, tokenContenders } from './token-level.js';
import { yardsticks } from './yardsticks.js';

/** One copy of each array stays in the last-level cache, so that the memory is no limit. */
const IN_CACHE: TokenShape = { tokens: 64, vocab: 32000 };
/** What can be called again and again on it. */
const REPEATABLE: readonly TokenOp[] = ['forward', 'forward with entropy', 'backward second array'];

/** 1, 2, 4, … and all. */
function threadCounts(most: number): number[] {
  const powers = Array.from({ length: 10 }, (_, k) => 2 ** k).filter((count) => count < most);
  return [...powers, most];
}

export function threadExperiments({ shapes: [shape], dtypes: [dtype], backends, seed }: Plan): Experiment[] | Omission {
  const addon = benchAddon();
  if (!addon || !backends.includes('cpu')) return { reason: 'it needs the cpu backend' };
  const setLimit = (threads: number) => addon.limitThreads({ threads });
  const experiment = (at: TokenShape, inCache: boolean): Experiment => ({
    section: 'threads',
    title: `threads, ${formatShape(at)}${inCache ? ', in cache' : ''}`,
    elements: at.tokens * at.vocab,
    open() {
      const slots = inCache ? 1 : undefined;
      const [arrays] = new BenchMemory(at, [dtype], { backends: ['cpu'], seed, slots }).host;
      const setting = { section: 'threads', shape: at, backend: 'cpu' } as const;
      return threadCounts(addon.cpuInfo().threads).flatMap((threads) => {
        const own = tokenContenders(arrays, setting, inCache ? REPEATABLE : TOKEN_OPS);
        const shared = { section: 'threads', threads, brief: inCache, prepare: () => setLimit(threads) } as const;
        return [...yardsticks(arrays, at, threads), ...own].map((one): Contender => ({ ...one, ...shared }));
      });
    },
    compare: threadComparisons,
    close: () => setLimit(0),
  });
  return [experiment(shape, false), experiment(IN_CACHE, true)];
}

/** What several threads gain over one. */
function threadComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('threads', measured);
  const { rows } = claims;
  for (const row of rows) {
    const one = rows.find(({ op, by, dtype, threads }) => {
      return threads === 1 && op === row.op && by === row.by && dtype === row.dtype;
    });
    if (row.threads !== 1) claims.speed(`${row.op} ${row.dtype}, ${row.threads} threads against 1`, row, one);
  }
  return claims.list;
}
