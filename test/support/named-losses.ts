// Every named loss in one list: what all of them must do is tested on all of them.

import { Random } from '../../bench/problems/random.js';
import {
  type Aggregation,
  type AsyncOptions,
  type Batch,
  type BnpoOptions,
  type CispoOptions,
  type ConspoOptions,
  type DiscoOptions,
  type DppoOptions,
  disco,
  discoSync,
  type GradientOptions,
  type GrpoOptions,
  grpo,
  grpoSync,
  type LossGradient,
  type LossResult,
  type PolicyBatch,
  type SapoOptions,
  type VespoOptions,
  vespo,
  vespoSync,
} from '../../lib/index.js';
import { LOSS_NAMES, LOSSES, type LossName } from '../../lib/losses/list.js';
import type { Family } from './oracle.js';
import { indicesIn, tokensOf } from './packed.js';
import { randomBatch } from './random.js';

/** Options of any of them. */
export type AnyOptions = BnpoOptions &
  CispoOptions &
  SapoOptions &
  DppoOptions &
  VespoOptions &
  Omit<GrpoOptions & ConspoOptions, 'tau'> &
  Pick<DiscoOptions, 'score' | 'klConstraint'> & { tau?: number };

type Run = <B extends PolicyBatch, G extends LossGradient<B> = 'new'>(
  batch: B,
  options?: AnyOptions & AsyncOptions & GradientOptions<G>,
) => Promise<LossResult<B, G>>;

type RunSync = <B extends PolicyBatch, G extends LossGradient<B> = 'new'>(
  batch: B,
  options?: AnyOptions & GradientOptions<G>,
) => LossResult<B, G>;

export interface NamedLoss {
  name: string;
  /** What it sums over: groups, or sequences with advantages. */
  over: 'groups' | 'advantages';
  options: AnyOptions;
  run: Run;
  runSync: RunSync;
}

const named = (
  name: string,
  over: NamedLoss['over'],
  [run, runSync]: [Run, RunSync],
  options: AnyOptions = {},
): NamedLoss => ({ name, over, options, run, runSync });

/** With bounds narrow enough that random batches meet them, and with what a loss cannot do without. */
const OPTIONS: Partial<Record<LossName, AnyOptions>> = {
  conspo: { margin: 0.1 },
  drGrpo: { maxLength: 16 },
  gspo: { epsilonLow: 0.03, epsilonHigh: 0.05 },
  luspo: { epsilonLow: 0.03, epsilonHigh: 0.05 },
  dppo: { epsilonLow: 0.05, epsilonHigh: 0.04, ratioMax: 1.2 },
  gmpo: { epsilonLow: 0.3, epsilonHigh: 0.2 },
  cispo: { ratioMin: 0.7, ratioMax: 1.3 },
};

const isPolicyLoss = (name: LossName) => 'advantage' in LOSSES[name].parameters;
const functionsOf = (name: LossName) =>
  (name === 'vespo' ? CORRECTED : [LOSSES[name].run, LOSSES[name].runSync]) as unknown as [Run, RunSync];

/** VESPO corrects for rollouts by itself: what tests give all of them is left out. */
const CORRECTED = [
  (batch: PolicyBatch, { rolloutCorrection: _none, ...options }: AnyOptions = {}) => vespo(batch, options),
  (batch: PolicyBatch, { rolloutCorrection: _none, ...options }: AnyOptions = {}) => vespoSync(batch, options),
];

/** Those weighted by advantages. */
export const POLICY_LOSSES: NamedLoss[] = LOSS_NAMES.filter(isPolicyLoss).map((name) =>
  named(name, 'advantages', functionsOf(name), OPTIONS[name]),
);

/** Those of groups, and forms of some that are. */
export const GROUP_LOSSES: NamedLoss[] = [
  ...LOSS_NAMES.filter((name) => !isPolicyLoss(name)).map((name) =>
    named(name, 'groups', functionsOf(name), OPTIONS[name]),
  ),
  named('grpo, discriminative', 'groups', [grpo, grpoSync], { form: 'discriminative' }),
  named('disco on ratios', 'groups', [disco, discoSync], { score: 'ratio' }),
];

/** DisCO's plain difference is `tau: null`, which no other loss knows. */
const plainDifference = named('disco, plain difference', 'groups', [
  (batch, options) => disco(batch, { ...options, tau: null }),
  (batch, options) => discoSync(batch, { ...options, tau: null }),
]);

/** How the oracle knows the advantage-weighted losses; REINFORCE has no name of its own in the package. */
export const FAMILIES: Record<string, Family> = {
  grpo: 'clipped',
  dapo: 'clipped',
  bnpo: 'clipped',
  drGrpo: 'clipped',
  gspo: 'gspo',
  luspo: 'gspo',
  gmpo: 'gmpo',
  cispo: 'cispo',
  dppo: 'dppo',
  vespo: 'vespo',
  sapo: 'sapo',
  reinforce: 'reinforce',
};

export const NAMED_LOSSES: NamedLoss[] = [...POLICY_LOSSES, ...GROUP_LOSSES, plainDifference];

/** Each with what it needs. */
export const AGGREGATIONS: { aggregation: Aggregation; maxLength?: number }[] = [
  { aggregation: 'sequence-mean' },
  { aggregation: 'token-mean' },
  { aggregation: 'constant-length', maxLength: 7 },
];

/** For `describe.each`. */
export const byName = (losses: readonly NamedLoss[]): [name: string, loss: NamedLoss][] =>
  losses.map((loss) => [loss.name, loss]);

export type FullBatch = ReturnType<typeof fullBatch>;

/** A random batch with everything a loss can take from it, and a group that teaches something if any can. */
export function fullBatch(seed: number, { vocab = 5, groups = 3, spread = 0.3 } = {}) {
  const batch = randomBatch(seed, { vocab, groups });
  const random = new Random(seed + 1);
  const oldLogProbs = batch.oldLogProbs.map((old) => -Math.abs(old + spread * random.normal()));
  const { cuGroups, rewards } = batch;
  for (let g = 0; g < groups; g++) {
    const [first, second] = indicesIn(cuGroups, g).filter((i) => tokensOf(batch, i).length > 0);
    if (second === undefined) continue;
    rewards[second] = 1 - rewards[first];
    break;
  }
  return { ...batch, oldLogProbs, rolloutLogProbs: oldLogProbs.map((old) => -Math.abs(old + 0.4 * random.normal())) };
}

/** Advantages of its tokens, some of them 0. */
export const perTokenAdvantages = (seed: number, { mask }: FullBatch) => {
  const random = new Random(seed + 2);
  return Float64Array.from(mask, () => (random.uniform() < 0.1 ? 0 : random.normal()));
};

/** The same batch of log-probs near the current ones. */
export function fromLogProbs<B extends Batch & { refLogProbs: Float64Array }>(batch: B) {
  const { logits: _logits, targets: _targets, ...rest } = batch;
  return { ...rest, logProbs: batch.refLogProbs.map((ref, t) => -Math.abs(ref + 0.2 * Math.sin(t))) };
}

/** Groups [first, last) of a batch as a batch of their own, without `groupOrder`. */
export function groupsOf<B extends Batch>(batch: B, first: number, last: number): B {
  const { cuGroups, cuSeqlens } = batch;
  const [from, to] = [cuGroups[first], cuGroups[last]];
  const [begin, end] = [cuSeqlens[from], cuSeqlens[to]];
  const cut = (value: unknown): unknown => {
    if (!ArrayBuffer.isView(value)) return value;
    const array = value as Float64Array;
    const tokens = cuSeqlens[cuSeqlens.length - 1];
    const width = tokens === 0 ? 0 : array.length / tokens; // V for logits, 1 for anything per token
    return array.slice(begin * width, end * width);
  };
  const perToken = Object.fromEntries(Object.entries(batch).map(([key, value]) => [key, cut(value)])) as unknown as B;
  return {
    ...perToken,
    rewards: batch.rewards.slice(from, to),
    cuSeqlens: cuSeqlens.slice(from, to + 1).map((offset) => offset - begin),
    cuGroups: cuGroups.slice(first, last + 1).map((offset) => offset - from),
  };
}
