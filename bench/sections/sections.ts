// What a section measures: experiments, each one set of contenders that take turns.

import { type OpenPeer, usableContenders } from '../peer.js';
import { benchAddon } from '../problems/addon.js';
import type { TokenShape } from '../problems/data.js';
import { type Lengths, scoredRollouts } from '../problems/rollouts.js';
import type { Contender } from '../timing.js';
import { callExperiments } from './calls.js';
import {
  againstReference,
  groupComparisons,
  lossComparisons,
  threadComparisons,
  tokenComparisons,
} from './comparisons.js';
import type { Experiment, Omission, Plan, SectionName } from './experiment.js';
import { lossContenders } from './losses.js';
import { BenchMemory } from './memory.js';
import { infoNceContender, objectiveContenders } from './objectives.js';
import { scoreContenders, shapeOf } from './scores.js';
import { sweepExperiments } from './sweep.js';
import { TOKEN_OPS, type TokenOp, tokenContenders } from './token-level.js';
import { yardsticks } from './yardsticks.js';

const defaultScoreLengths: Lengths = { min: 128, max: 384 };
const defaultLossLengths: Lengths = { min: 32, max: 32 };
const PEER_BUDGET_SECONDS = 20;

export function experimentsOf(section: SectionName, plan: Plan, peers: readonly OpenPeer[]): Experiment[] | Omission {
  switch (section) {
    case 'token':
      return plan.shapes.map((shape) => tokenExperiment(shape, plan, peers));
    case 'scores':
      return [rolloutExperiment('scores', plan, scoreContenders)];
    case 'objectives':
      return [rolloutExperiment('objectives', plan, objectiveContenders)];
    case 'losses':
      return plan.shapes.map((shape) => lossExperiment(shape, plan));
    case 'groups':
      return [groupExperiment(plan)];
    case 'calls':
      return callExperiments(plan);
    case 'threads':
      return threadExperiments(plan);
    case 'sweep':
      return sweepExperiments(plan);
  }
}

const nameOf = ({ tokens, vocab }: TokenShape) => `T x V = ${tokens} x ${vocab}`;

function tokenExperiment(shape: TokenShape, plan: Plan, peers: readonly OpenPeer[]): Experiment {
  const { dtypes, backends, seed } = plan;
  let memory: BenchMemory | undefined;
  return {
    section: 'token',
    title: `token level, ${nameOf(shape)}`,
    rounds: { budgetSeconds: PEER_BUDGET_SECONDS },
    async open() {
      const opened = new BenchMemory(shape, dtypes, { backends, peers: peers.length > 0, seed });
      memory = opened;
      const own = backends.flatMap((backend) =>
        opened.of(backend).flatMap((arrays) => tokenContenders(arrays, { section: 'token', shape, backend })),
      );
      const theirs = [];
      const f32 = opened.host.find(({ dtype }) => dtype === 'f32');
      if (f32) for (const peer of peers) theirs.push(...(await usableContenders(peer, f32)));
      return [...opened.yardsticks(), ...own, ...theirs];
    },
    compare: tokenComparisons,
    close: () => memory?.dispose(),
  };
}

function rolloutExperiment(section: 'scores' | 'objectives', plan: Plan, make: typeof scoreContenders): Experiment {
  const rollouts = scoredRollouts(plan.sequences, plan.lengths ?? defaultScoreLengths, plan.groupSize, plan.seed);
  const shape = shapeOf(rollouts);
  return {
    section,
    title: `${section}, N = ${shape.sequences}, T = ${shape.tokens}, groups of ${shape.groupSize}`,
    rounds: { budgetSeconds: PEER_BUDGET_SECONDS },
    open: () => plan.backends.flatMap((backend) => make(rollouts, { section, shape, backend })),
    compare: (measured) => againstReference(section, measured),
  };
}

function lossExperiment(shape: TokenShape, plan: Plan): Experiment {
  const { lossDtypes, backends, losses, seed, groupSize, lengths = defaultLossLengths } = plan;
  let memory: BenchMemory | undefined;
  return {
    section: 'losses',
    title: `losses, ${nameOf(shape)}`,
    rounds: { budgetSeconds: PEER_BUDGET_SECONDS },
    open() {
      const opened = new BenchMemory(shape, lossDtypes, { backends, seed });
      memory = opened;
      const own = backends.flatMap((backend) =>
        opened
          .of(backend)
          .flatMap((arrays) =>
            lossContenders(arrays, { section: 'losses', shape, backend }, losses, { lengths, groupSize, seed }),
          ),
      );
      return [...opened.yardsticks(), ...own];
    },
    compare: lossComparisons,
    close: () => memory?.dispose(),
  };
}

const GROUP_SIZES = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const MORE_SEQUENCES = 8;

function groupExperiment({ sequences, backends, seed }: Plan): Experiment {
  const sizes = GROUP_SIZES.filter((size) => size <= sequences);
  return {
    section: 'groups',
    title: `group InfoNCE against group size, N = ${sequences} and ${MORE_SEQUENCES * sequences}`,
    rounds: { budgetSeconds: PEER_BUDGET_SECONDS },
    open: () =>
      [sequences, MORE_SEQUENCES * sequences].flatMap((n) =>
        sizes.flatMap((size) => {
          const rollouts = scoredRollouts(n, { min: 1, max: 1 }, size, seed);
          const shape = shapeOf(rollouts);
          return backends.map((backend) => infoNceContender(rollouts, { section: 'groups', shape, backend }));
        }),
      ),
    compare: groupComparisons,
  };
}

/** 1, 2, 4, … and all. */
function threadCounts(most: number): number[] {
  const powers = Array.from({ length: 10 }, (_, k) => 2 ** k).filter((count) => count < most);
  return [...powers, most];
}

/** Its one copy stays in the last cache, so that the memory is no limit. */
const IN_CACHE: TokenShape = { tokens: 64, vocab: 32000 };
/** What can be called again and again on it. */
const REPEATABLE: readonly TokenOp[] = ['forward', 'forward with entropy', 'backward second array'];

function threadExperiments({ shapes: [shape], dtypes: [dtype], backends, seed }: Plan): Experiment[] | Omission {
  const addon = benchAddon();
  if (!addon || !backends.includes('cpu')) return { section: 'threads', reason: 'it needs the cpu backend' };
  const setLimit = (threads: number) => addon.limitThreads({ threads });
  const experiment = (at: TokenShape, inCache: boolean): Experiment => ({
    section: 'threads',
    title: `threads, ${nameOf(at)}${inCache ? ', in cache' : ''}`,
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
