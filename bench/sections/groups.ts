// The section `groups`: group InfoNCE against the size of the groups, at two numbers of sequences.
import { scoredRollouts } from '../problems/rollouts.js';
import type { Comparison } from '../report/report.js';
import { againstReference, Claims, type Measured, ownBackends, suffix } from './comparisons.js';
import { BUDGET_SECONDS, type Experiment, type Plan } from './experiment.js';
import { infoNceContender } from './objectives.js';
import { shapeOf } from './rollout-level.js';

const GROUP_SIZES = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const MORE_SEQUENCES = 8;

export function groupExperiments({ sequences, backends, seed }: Plan): Experiment[] {
  const sizes = GROUP_SIZES.filter((size) => size <= sequences);
  const experiment: Experiment = {
    section: 'groups',
    title: `group InfoNCE against group size, N=${sequences} and N=${MORE_SEQUENCES * sequences}`,
    elements: (1 + MORE_SEQUENCES) * sequences * sizes.length,
    rounds: { budgetSeconds: BUDGET_SECONDS },
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
  return [experiment];
}

/** Linear in N, whatever the group size: the cost per sequence at the larger N over that at the smaller is 1. */
function groupComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('groups', measured);
  const { rows } = claims;
  const backends = ownBackends(rows);
  for (const row of rows) {
    const of = suffix(row.backend ?? backends[0], backends);
    const same = rows.filter(({ backend }) => backend === row.backend);
    const smaller = same.find(({ shape }) => {
      return shape.groupSize === row.shape.groupSize && (shape.sequences ?? 0) < (row.shape.sequences ?? 0);
    });
    const { groupSize, sequences } = row.shape;
    if (smaller) {
      const claim = `group size ${groupSize}: cost per sequence at N ${sequences} over N ${smaller.shape.sequences}${of}`;
      const times = (sequences ?? 1) / (smaller.shape.sequences ?? 1);
      claims.ratio(claim, row, [smaller], (larger, small) => larger / small / times);
    }
  }
  return [...claims.list, ...againstReference('groups', measured)];
}
