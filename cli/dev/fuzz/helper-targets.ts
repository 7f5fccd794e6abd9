// The functions around a loss: rollouts to a batch, a batch in parts, metrics, schedules. Each with what must hold of its results.
import * as rlvr from '../../../lib/index.js';
import { RlvrError } from '../../../lib/index.js';
import { LOSS_NAMES, type LossName } from '../../../lib/losses/list.js';
import { problem } from './claims.js';
import { below, Fields } from './data.js';
import type { BatchPlan, Plan } from './plan.js';
import { pick, type Target } from './targets.js';

type Call = (...args: unknown[]) => unknown;

/** Without empty groups, and with numbers that no sum of them overflows. */
function tame(batch: BatchPlan): BatchPlan {
  const groups = batch.groups.filter((group) => group.length > 0);
  return { ...batch, groups, from: 'logProbs', weights: 'normal', others: 'near', memory: 'own' };
}

const near = (a: number, b: number, size = 1) => Math.abs(a - b) <= 1e-9 * Math.max(size, Math.abs(a), Math.abs(b));

const allNear = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  a.length === b.length && Array.from(a).every((value, i) => near(value, b[i]));

const fromRollouts: Target = {
  name: 'fromRollouts',
  fields: ['logProbs', 'answerMask'],
  options: [],
  sync: rlvr.fromRollouts as Call,
  args({ batch, fields, variant }) {
    const random = new Fields(batch).random('rollouts');
    const list = <T>(length: number, of: () => T) => Array.from({ length }, of);
    const ids = (length: number) => {
      const drawn = list(length, () => below(random, 100));
      return [drawn, Int32Array.from(drawn), BigInt64Array.from(drawn, BigInt)][below(random, 3)];
    };
    const perToken = (of: () => number) => batch.groups.map((group) => group.map((length) => list(length, of)));
    const rollouts = {
      promptIds: batch.groups.map(() => ids(1 + below(random, 4))),
      answers: batch.groups.map((group) => group.map(ids)),
      rewards: batch.groups.map((group) => list(group.length, () => below(random, 2))),
      ...(fields.includes('logProbs') && { logProbs: perToken(() => -random.uniform()) }),
      ...(fields.includes('answerMask') && { answerMask: perToken(() => below(random, 2)) }),
    };
    const padding = ['right', 'left', 'none'][variant % 3];
    return [rollouts, { padding, padId: variant % 4, ...(padding !== 'none' && variant % 5 === 0 && { length: 20 }) }];
  },
  check: (result, [rollouts, options]) =>
    checkRollouts(result as Rolled, rollouts as Given, options as rlvr.RolloutsOptions),
};

type Rolled = rlvr.RolloutBatch & { cuSeqlens?: Int32Array; shape?: readonly number[]; oldLogProbs?: Float64Array };
type Given = Record<'answers' | 'logProbs' | 'answerMask', ArrayLike<number>[][] | undefined> & {
  promptIds: ArrayLike<number>[];
  rewards: number[][];
};

/** Token by token: what stands at each place follows from the sequence that is there, counted from its first token. */
function checkRollouts(
  made: Rolled,
  { promptIds, answers, rewards, ...perToken }: Given,
  { padding, padId }: rlvr.RolloutsOptions,
) {
  let place = 0;
  let sequence = 0;
  let right = true;
  answers!.forEach((ofPrompt, g) => {
    ofPrompt.forEach((answer, j) => {
      const prompt = Array.from(promptIds[g], Number);
      const ids = [...prompt, ...Array.from(answer, Number)];
      const room = made.shape?.[1] ?? ids.length;
      const start = place + (padding === 'left' ? room - ids.length : 0);
      for (let at = place; at < place + room; at++) {
        const k = at - start; // in the sequence
        const answered = k + 1 - prompt.length; // which token of the answer is scored here
        const scored =
          answered >= 0 && k >= 0 && k + 1 < ids.length && (perToken.answerMask?.[g][j][answered] ?? 1) !== 0;
        right &&= made.inputIds[at] === (ids[k] ?? padId);
        right &&= made.attentionMask[at] === (ids[k] === undefined ? 0 : 1);
        right &&= made.targets[at] === (k >= 0 ? (ids[k + 1] ?? padId) : padId);
        right &&= made.mask[at] === (scored ? 1 : 0);
        right &&=
          made.oldLogProbs === undefined || made.oldLogProbs[at] === (scored ? perToken.logProbs![g][j][answered] : 0);
      }
      right &&= made.rewards[sequence++] === rewards[g][j];
      place += room;
      right &&= made.cuSeqlens === undefined || made.cuSeqlens[sequence] === place;
    });
    right &&= made.cuGroups[g + 1] === sequence;
  });
  return problem(
    ['every token is where it belongs', right],
    ['and there are no others', made.inputIds.length === place],
  );
}

/** A batch that can be cut, and options for its parts. */
function cuttable(plan: Plan): [batch: Record<string, unknown>, options: Record<string, unknown>] {
  const fields = new Fields(tame(plan.batch));
  const names = ['logProbs', 'cuSeqlens', 'cuGroups', 'rewards', ...plan.fields];
  const loss = LOSS_NAMES[plan.variant % LOSS_NAMES.length];
  const largest = Math.max(1, ...fields.plan.groups.map((group) => group.length));
  const most = plan.variant % 2 === 0 ? { sequences: largest + 1 } : { tokens: Math.max(1, fields.tokens) };
  return [pick(fields, names), { ...most, loss, ...(loss === 'drGrpo' && { options: { maxLength: 8 } }) }];
}

const CUT_FIELDS = ['mask', 'oldLogProbs', 'tokenWeights'];

/** What a loss gives on a batch and on its parts; undefined where it refuses them, as a target of its own shows. */
function onParts(batch: unknown, options: rlvr.MicroBatchesOptions, parts: { batch: unknown; options: object }[]) {
  const call = (of: unknown, how: object | undefined) =>
    rlvr.lossesSync[options.loss](of as rlvr.Batch, { ...how, backend: 'reference' });
  try {
    return { whole: call(batch, options.options), results: parts.map((part) => call(part.batch, part.options)) };
  } catch (error) {
    if (error instanceof RlvrError && /^(tokenWeights|normalizer|grad|the loss|loss)/.test(error.message))
      return undefined;
    throw error;
  }
}

const microBatches: Target = {
  name: 'microBatches',
  fields: CUT_FIELDS,
  options: [],
  passesOn: true,
  sync: rlvr.microBatches as Call,
  args: cuttable,
  check(result, [batch, options]) {
    const made = onParts(batch, options as rlvr.MicroBatchesOptions, result as rlvr.MicroBatch<unknown>[]);
    if (!made) return undefined;
    const { whole, results } = made;
    const gradient = results.flatMap(({ gradLogProbs }) => Array.from(gradLogProbs as Float64Array));
    const scores = results.flatMap((part) => Array.from(part.scores));
    return problem(
      [
        'the losses add up',
        near(
          results.reduce((sum, { loss }) => sum + loss, 0),
          whole.loss,
        ),
      ],
      ['the gradients are those of the whole', allNear(gradient, whole.gradLogProbs as Float64Array)],
      ['the scores too', allNear(scores, whole.scores)],
    );
  },
};

const mergeMetrics: Target = {
  name: 'mergeMetrics',
  fields: CUT_FIELDS,
  options: [],
  sync: (parts, results) => (rlvr.mergeMetrics as Call)(parts, results),
  args(plan) {
    const [batch, options] = cuttable({ ...plan, fields: plan.fields.filter((name) => name !== 'tokenWeights') });
    const parts = rlvr.microBatches(batch as never, options as never) as rlvr.MicroBatch<unknown>[];
    const made = onParts(batch, options as never, parts);
    if (!made) return [[], [], {}];
    return [parts, made.results.map(({ metrics }) => ({ metrics })), made.whole.metrics];
  },
  check(result, [parts, , whole]) {
    const merged = Object.entries(result as Record<string, number>);
    const expected = whole as Record<string, number>;
    const wrong = merged.find(([name, value]) => !near(value, expected[name]));
    return (parts as unknown[]).length === 0 ? undefined : problem([`${wrong?.[0]} is that of the whole`, !wrong]);
  },
};

/** n over k. */
const choose = (n: number, k: number) =>
  Array.from({ length: k }, (_, i) => (n - i) / (i + 1)).reduce((a, b) => a * b, 1);

const passAtK: Target = {
  name: 'passAtK',
  fields: ['groupOrder'],
  options: ['positiveThreshold'],
  sync: rlvr.passAtK as Call,
  args(plan) {
    const fields = new Fields({ ...plan.batch, groups: tame(plan.batch).groups });
    const smallest = Math.min(4, ...fields.plan.groups.map((group) => group.length));
    const inputs = pick(fields, ['rewards', 'cuGroups', ...plan.fields]);
    return [inputs, { k: 1 + (plan.variant % smallest), ...Object.fromEntries(plan.options) }];
  },
  check(result, [inputs, options]) {
    const { rewards, cuGroups, groupOrder } = inputs as {
      rewards: Float64Array;
      cuGroups: Int32Array;
      groupOrder?: Int32Array;
    };
    const { k, positiveThreshold = 0 } = options as rlvr.PassAtKOptions;
    const { groups, mean } = result as rlvr.PassAtK;
    const expected = Array.from(groups, (_, g) => {
      const places = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, i) => cuGroups[g] + i);
      const wrong = places.filter((i) => !(rewards[groupOrder?.[i] ?? i] > positiveThreshold)).length;
      return 1 - choose(wrong, k) / choose(places.length, k);
    });
    const sum = expected.reduce((a, b) => a + b, 0);
    return problem(
      ['every group has its chance', allNear(groups, expected)],
      ['the mean is theirs', near(mean, sum / Math.max(groups.length, 1))],
    );
  },
};

const adaptiveKl: Target = {
  name: 'AdaptiveKl',
  fields: [],
  options: ['klCoef', 'target'],
  sync(parameters, kl, sequences) {
    const controller = new rlvr.AdaptiveKl(parameters as rlvr.AdaptiveKlParameters);
    const next = controller.update(kl as number, sequences as number);
    return { next, klCoef: controller.klCoef };
  },
  args({ options, variant }) {
    const given = Object.fromEntries(options.map(([name, value]) => [name, Math.abs(value as number) || 0.1]));
    return [{ klCoef: 0.1, target: 0.05, horizon: 1000, ...given }, variant / 50 - 0.5, variant];
  },
  check(result, [parameters, kl, sequences]) {
    const { klCoef, target, horizon = 10_000 } = parameters as rlvr.AdaptiveKlParameters;
    const error = Math.min(Math.max((kl as number) / target - 1, -0.2), 0.2);
    const made = result as { next: number; klCoef: number };
    const expected = klCoef * (1 + (error * (sequences as number)) / horizon);
    return problem(
      ['the coefficient is the one returned', made.next === made.klCoef],
      ['the step is that of the formula', expected > 1e300 || near(made.next / klCoef, expected / klCoef)],
    );
  },
};

const runningRewards: Target = {
  name: 'RunningRewards',
  fields: [],
  options: [],
  sync(options, first, second) {
    const running = new rlvr.RunningRewards(options as rlvr.RunningRewardsOptions);
    running.update(first as Float64Array);
    const restored = new rlvr.RunningRewards({ state: JSON.parse(JSON.stringify(running.state)) });
    for (const one of [running, restored]) one.update(second as Float64Array);
    return { state: running.state, restored: restored.state, normalized: running.normalized(second as Float64Array) };
  },
  args({ batch, variant }) {
    const fields = new Fields(batch);
    const [first, second] = ['first', 'second'].map((name) => fields.weights(name, fields.sequences));
    return [{ center: variant % 3 !== 0 }, first, variant % 4 === 0 ? Array.from(second) : second];
  },
  check(result, [options, first, second]) {
    const { state, restored, normalized } = result as Record<'state' | 'restored', rlvr.RunningRewardsState> & {
      normalized: Float64Array;
    };
    const given = second as number[];
    const all = [...(first as number[]), ...given];
    const size = Math.max(...all.map(Math.abs), 0);
    const mean = all.reduce((sum, value) => sum + value / all.length, 0);
    const squares = all.reduce((sum, value) => sum + ((value - mean) / size) ** 2, 0);
    const std = Math.sqrt(state.squares / (state.count - 1)) || 1;
    const { center } = options as { center: boolean };
    return problem(
      ['a restored one goes on alike', JSON.stringify(state) === JSON.stringify(restored)],
      ['all are counted', state.count === all.length],
      ['the mean is that of all', Math.abs(state.mean - mean) <= 1e-9 * size],
      ['so are the squares', size < 1e-140 || Math.abs(state.squares / size ** 2 - squares) <= 1e-9 * all.length],
      [
        'they are brought to that scale',
        normalized.every((v, i) => near(v, (given[i] - (center ? state.mean : 0)) / std)),
      ],
    );
  },
};

/** The losses by name are those of that name: `find` refuses what is none, in place of the TypeError of a trainer's own line. */
function find<F>(table: Readonly<Record<LossName, F>>, name: unknown): F {
  if (typeof name === 'string' && Object.hasOwn(table, name)) return table[name as LossName];
  throw new RlvrError('ERR_RANGE', 'name: expected that of a loss, got another');
}

const lossesByName: Target = {
  name: 'losses',
  fields: ['mask', 'oldLogProbs', 'refLogProbs'],
  options: ['positiveThreshold', 'normalizer', 'onNonFinite'],
  sync: (name, batch, options) => (find(rlvr.lossesSync, name) as Call)(batch, options),
  async: async (name, batch, options) => (find(rlvr.losses, name) as Call)(batch, options),
  args(plan) {
    const name = LOSS_NAMES[plan.variant % LOSS_NAMES.length];
    const fields = new Fields({ ...plan.batch, from: 'logProbs' });
    const batch = pick(fields, ['logProbs', 'cuSeqlens', 'cuGroups', 'rewards', ...plan.fields]);
    return [name, batch, { ...(name === 'drGrpo' && { maxLength: 16 }), ...Object.fromEntries(plan.options) }];
  },
};

export const HELPER_TARGETS: readonly Target[] = [
  ...[fromRollouts, microBatches, mergeMetrics, passAtK],
  ...[adaptiveKl, runningRewards, lossesByName],
];
