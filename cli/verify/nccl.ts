// What `verify` runs over NCCL, where that is: a rank on each device, and the gradient of hidden states added up on all of them.
import type { Elements } from '../../bench/problems/data.js';
import { createLinearProblem, layerOf } from '../../bench/problems/linear.js';
import { LINEAR_TOLERANCE } from '../../bench/problems/tolerances.js';
import { openDevice } from '../../lib/cuda/index.js';
import * as api from '../../lib/index.js';
import { openNccl } from '../../lib/nccl/index.js';
import type { Check } from './checks.js';
import { type Finding, failedCheck, judge } from './findings.js';
import { problem } from './problem.js';

const WIDTH = 67;
const OPTIONS = { tau: 1, margin: 0.1 };
const MOST = 8; // ranks

type Batch = ReturnType<typeof layerBatch>;

function layerBatch(seed: number) {
  const { logits, ...rollouts } = problem('f32', seed);
  const shape = { tokens: rollouts.targets.length, vocab: logits.shape[1], width: WIDTH };
  return { ...rollouts, ...layerOf(createLinearProblem(shape, seed), 'f32') };
}

/** The check; null where there is no device. */
export async function ncclFinding(seed: number): Promise<Finding | null> {
  const devices = api.backends().find(({ name }) => name === 'cuda')?.devices ?? 0;
  if (devices === 0) return null;
  const size = Math.min(devices, MOST);
  const check: Check = {
    name: `conspo, NCCL, ${size} ranks`,
    dtype: 'f32',
    tolerance: LINEAR_TOLERANCE.gradient.f32,
    needsLibrary: true,
    run: () => ({}),
  };
  const ranks = api.inProcess(size);
  try {
    const batch = layerBatch(seed);
    const parts = await Promise.all(ranks.map((via) => onRank(via, batch).finally(() => via.close())));
    const whole = api.conspoSync(batch, { ...OPTIONS, backend: 'reference' });
    const gradHidden = Array.from(whole.gradHidden.data as Elements);
    const every = <T>(values: T[]) => parts.flatMap(() => values);
    const numbers = Array.from({ length: size }, (_, rank) => rank);
    return judge(
      check,
      'cuda',
      {
        numbers: parts.flatMap((part) => part.numbers),
        loss: parts.map(({ loss }) => loss),
        gradHidden: parts.flatMap((part) => part.gradHidden),
      },
      { numbers: every(numbers), loss: every([whole.loss]), gradHidden: every(gradHidden) },
    );
  } catch (error) {
    return failedCheck(check, 'cuda', error);
  }
}

async function onRank(via: api.Communicator, { hidden, weight, ...batch }: Batch) {
  using device = openDevice(via.rank);
  await using comm = await openNccl({ via, device, timeout: 60_000 });
  const { rank, size } = comm;
  const numbers = (await comm.allGather(Float64Array.of(rank))).map(([number]) => number);
  const [start, end] = [rank, rank + 1].map((r) => Math.floor((r * weight.shape[0]) / size));
  const rows = weight.data.subarray(start * WIDTH, end * WIDTH);
  const { loss, gradHidden } = await api.conspo(
    {
      ...batch,
      hidden: device.uploadSync(hidden),
      weight: device.uploadSync({ data: rows, shape: [end - start, WIDTH], dtype: weight.dtype }),
    },
    { ...OPTIONS, parallel: { vocab: { comm, start } } },
  );
  return { numbers, loss, gradHidden: Array.from(await gradHidden.download()) };
}
