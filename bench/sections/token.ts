// The section `token`: the token level of the package in every dtype, also under sampling replay, tokens drawn from the same logits, and
// the token level of the peers in f32.
import type { DType } from '../../lib/index.js';
import { type OpenPeer, usableContenders } from '../peer.js';
import type { TokenShape } from '../problems/data.js';
import { formatShape } from '../report/figures.js';
import type { Comparison } from '../report/report.js';
import type { Contender } from '../timing.js';
import { againstReference, Claims, type Measured, ownBackends, suffix } from './comparisons.js';
import { BUDGET_SECONDS, type Experiment, type Plan } from './experiment.js';
import { BenchMemory } from './memory.js';
import { OWN, type Setting } from './own.js';
import { REPLAYED, replayContenders } from './replay.js';
import { plainSampling, samplingContenders } from './sampling.js';
import { tokenContenders } from './token-level.js';
import { IN_WASM, wasmMemoryContenders } from './wasm-memory.js';

export function tokenExperiments(plan: Plan, peers: readonly OpenPeer[]): Experiment[] {
  return plan.shapes.map((shape) => tokenExperiment(shape, plan, peers));
}

function tokenExperiment(shape: TokenShape, plan: Plan, peers: readonly OpenPeer[]): Experiment {
  const { dtypes, backends, seed } = plan;
  let memory: BenchMemory | undefined;
  return {
    section: 'token',
    title: `token level, ${formatShape(shape)}`,
    elements: shape.tokens * shape.vocab,
    rounds: { budgetSeconds: BUDGET_SECONDS },
    async open() {
      const opened = new BenchMemory(shape, dtypes, { backends, peers: peers.length > 0, seed });
      memory = opened;
      const own = backends.flatMap((backend) =>
        opened.of(backend).flatMap((arrays) => {
          const setting: Setting = { section: 'token', shape, backend };
          return [
            ...tokenContenders(arrays, setting),
            ...replayContenders(arrays, setting),
            ...samplingContenders(arrays, setting),
            ...wasmMemoryContenders(arrays, setting),
          ];
        }),
      );
      const theirs: Contender[] = [];
      const f32 = opened.host.find(({ dtype }) => dtype === 'f32');
      if (f32) theirs.push(plainSampling(f32, { section: 'token', shape }));
      if (f32) for (const peer of peers) theirs.push(...(await usableContenders(peer, f32)));
      return [...opened.yardsticks(), ...own, ...theirs];
    },
    compare: tokenComparisons,
    close: () => memory?.dispose(),
  };
}

export function tokenComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('token', measured);
  const { rows } = claims;
  const backends = ownBackends(rows);
  const [main] = backends;
  for (const theirs of rows.filter(({ by }) => by !== OWN && by !== 'memory')) {
    const [op] = theirs.op.split(' by ');
    const variant = theirs.op === op ? '' : ` ${theirs.op.slice(op.length + 1)}`;
    claims.speed(`${op} f32, against ${theirs.by}${variant}`, claims.own(op, 'f32', main), theirs);
  }
  for (const backend of backends) {
    const of = suffix(backend, backends);
    const own = (op: string, dtype: DType) => claims.own(op, dtype, backend);
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      claims.share(`forward ${dtype}, of the read bandwidth${of}`, own('forward', dtype));
      claims.share(`backward in place ${dtype}, of the copy bandwidth${of}`, own('backward in place', dtype));
      if (dtype !== 'f32') {
        claims.speed(`forward ${dtype}, rows/s against f32${of}`, own('forward', dtype), own('forward', 'f32'));
      }
      const plain = own('forward', dtype);
      claims.cost(`forward with entropy ${dtype}, time over forward${of}`, own('forward with entropy', dtype), plain);
      claims.cost(
        `forward + backward ${dtype}, time over the sum of both${of}`,
        own('forward + backward', dtype),
        plain,
        own('backward in place', dtype),
      );
      const replayed = (of: string) => own(`${of}, ${REPLAYED}`, dtype);
      claims.cost(`sample ${dtype}, time over forward${of}`, own('sample', dtype), plain);
      claims.speed(`forward ${dtype}, ${REPLAYED}, against all ids${of}`, replayed('forward'), plain);
      const both = own('forward + backward', dtype);
      claims.speed(`forward + backward ${dtype}, ${REPLAYED}, against all ids${of}`, replayed('both'), both);
    }
    const there = (of: string) => own(`${of}, ${IN_WASM}`, 'f32');
    for (const op of ['forward', 'backward in place']) {
      claims.speed(`${op} f32, ${IN_WASM}, against copies${of}`, there(op), own(op, 'f32'));
    }
  }
  return [...claims.list, ...againstReference('token', measured)];
}
