// The section `losses`: whole losses from logits, the gradient in place of the logits, with the token level alone in the same rounds.
import { finiteRows, type TokenArrays } from '../problems/arrays.js';
import type { TokenShape } from '../problems/data.js';
import { exactLogProbs, gradientError, lossError, requireWithin, truthOf, WrongResult } from '../problems/float64.js';
import { type Lengths, LOSS_LENGTHS, oldLogProbsOf, rolloutsOfTokens } from '../problems/rollouts.js';
import { TOKEN_TOLERANCE } from '../problems/tolerances.js';
import { formatShape, TOKEN_LEVEL } from '../report/figures.js';
import type { Comparison } from '../report/report.js';
import type { Contender } from '../timing.js';
import { againstReference, Claims, type Measured, ownBackends, suffix } from './comparisons.js';
import { BUDGET_SECONDS, type Experiment, type Plan } from './experiment.js';
import { canDefer, type LossCallOptions, type LossFunction } from './loss-functions.js';
import { BenchMemory } from './memory.js';
import { OWN, ownIdentity, type Setting } from './own.js';
import { tokenContenders } from './token-level.js';

export function lossExperiments(plan: Plan): Experiment[] {
  return plan.shapes.map((shape) => lossExperiment(shape, plan));
}

function lossExperiment(shape: TokenShape, plan: Plan): Experiment {
  const { lossDtypes, backends, losses, seed, groupSize, lengths = LOSS_LENGTHS } = plan;
  let memory: BenchMemory | undefined;
  return {
    section: 'losses',
    title: `losses, ${formatShape(shape)}`,
    elements: shape.tokens * shape.vocab,
    rounds: { budgetSeconds: BUDGET_SECONDS },
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

interface LossBatchOptions {
  readonly lengths: Lengths;
  readonly groupSize: number;
  readonly seed: number;
}

function lossContenders(
  arrays: TokenArrays,
  setting: Setting,
  losses: Readonly<Record<string, LossFunction>>,
  { lengths, groupSize, seed }: LossBatchOptions,
): Contender[] {
  const { problem, dtype } = arrays;
  const logProbs = exactLogProbs(problem, dtype, arrays.source);
  const rollouts = {
    ...rolloutsOfTokens(problem.shape.tokens, lengths, groupSize, seed),
    oldLogProbs: oldLogProbsOf(logProbs), // a clipped token's row would not be read
  };
  const sequences = rollouts.rewards.length;
  const shape = { ...setting.shape, sequences, groupSize: Math.round(sequences / (rollouts.cuGroups.length - 1)) };
  const own = { ...setting, shape };
  return [
    ...tokenContenders(arrays, own, [TOKEN_LEVEL.forward, TOKEN_LEVEL.backward]),
    ...tokenContenders(arrays, own, ['forward + backward']).map((one) => ({ ...one, op: TOKEN_LEVEL.both })),
    ...Object.entries(losses).flatMap(([op, loss]) => {
      const batch = { ...rollouts, logProbs, targets: problem.targets };
      const inPlace = lossContender(arrays, own, op, loss, batch, 'in-place');
      if (!canDefer(op)) return [inPlace];
      return [inPlace, lossContender(arrays, own, `${op}, deferred`, loss, batch, { deferred: true })];
    }),
  ];
}

type LossBatch = ReturnType<typeof rolloutsOfTokens> & {
  oldLogProbs: Float64Array;
  logProbs: Float64Array;
  targets: Int32Array;
};

/** Checked against the reference backend's value and token weights on exact log-probs, and against exact logit gradients. */
function lossContender(
  arrays: TokenArrays,
  setting: Setting,
  op: string,
  loss: LossFunction,
  { logProbs, targets, ...rollouts }: LossBatch,
  gradient: NonNullable<LossCallOptions['gradient']>,
): Contender {
  const { problem, dtype, bytes, slots, restore } = arrays;
  const { backend } = setting;
  const run = (slot: number) => {
    const result = loss({ ...rollouts, logits: arrays.work[slot], targets }, { gradient, backend });
    arrays.settle();
    return result;
  };
  const name = `${op} ${dtype}, ${backend}`;
  const check = () => {
    const expected = loss({ ...rollouts, logProbs }, { backend: 'reference' });
    const upstream = Float64Array.from(expected.gradLogProbs ?? []);
    if (upstream.includes(0)) throw new WrongResult(`${name}: rows without a gradient, which are not read`);
    const { loss: value, rowScale } = run(0);
    requireWithin(`${name}: loss`, lossError(value, expected.loss), 1e-6);
    const truth = truthOf({ ...problem, upstream }, dtype, arrays.source);
    const rowOf = finiteRows(arrays, arrays.gradient('work', 0), name);
    const error = gradientError((t) => rowOf(t).map((entry) => entry * (rowScale?.[t] ?? 1)), truth);
    requireWithin(`${name}: gradient`, error, TOKEN_TOLERANCE.gradient[dtype]);
    restore(0);
    return error;
  };
  const moves = { read: bytes, copied: bytes };
  return { ...ownIdentity(setting), op, dtype, slots, memoryBound: true, moves, check, run, restore };
}

function lossComparisons(measured: Measured): Comparison[] {
  const claims = new Claims('losses', measured);
  const { rows } = claims;
  const alone: readonly string[] = Object.values(TOKEN_LEVEL);
  const backends = ownBackends(rows);
  for (const loss of rows.filter(({ by, op }) => by === OWN && !alone.includes(op))) {
    const backend = loss.backend ?? backends[0];
    const of = suffix(backend, backends);
    const own = (op: string) => claims.own(op, loss.dtype, backend);
    const name = `${loss.op} ${loss.dtype}`;
    claims.cost(
      `${name}, time over its forward and backward${of}`,
      loss,
      own(TOKEN_LEVEL.forward),
      own(TOKEN_LEVEL.backward),
    );
    if (loss.op !== 'grpo') claims.cost(`${name}, time over grpo${of}`, loss, own('grpo'));
  }
  return [...claims.list, ...againstReference('losses', measured)];
}
