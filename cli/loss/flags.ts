import { InvalidArgumentError } from 'commander';
import { ESTIMATORS } from '../../lib/estimators.js';
import { KL_ESTIMATORS } from '../../lib/ratio-score.js';
import { numberWithin } from '../options.js';

/** One option of a loss. */
interface Flag<T> {
  /** What the help says its value is; '' for a switch. */
  readonly argument: string;
  readonly description: string;
  readonly parse: (text: string) => T;
  /** The flag, perhaps with one of some values, without which this one would change nothing. */
  readonly needs?: readonly [flag: string, ...values: string[]];
}

type Needs = Flag<unknown>['needs'];

function number(description: string, bounds: Parameters<typeof numberWithin>[0] = {}, needs?: Needs): Flag<number> {
  return { argument: '<number>', description, parse: numberWithin(bounds), needs };
}

function word<const W extends string>(words: readonly W[], description: string, needs?: Needs): Flag<W> {
  const parse = (text: string) => {
    const known = words.find((candidate) => candidate === text);
    if (known === undefined) throw new InvalidArgumentError(`Allowed choices are ${words.join(', ')}.`);
    return known;
  };
  return { argument: '<name>', description: `${words.join(', ')}: ${description}`, parse, needs };
}

/** Whose KL is bounded, and how it is estimated. */
const REJECTIONS = [
  ...(['token-k1', 'token-k3'] as const),
  ...(['sequence-mean-k1', 'sequence-mean-k3', 'sequence-max-k1', 'sequence-max-k3'] as const),
] as const;

const WEIGHTED: Needs = ['rolloutCorrection', 'token', 'sequence'];
const NOT_BY_SEQUENCE: Needs = ['rolloutCorrection', 'token', 'none'];

function toggle(description: string, needs?: Needs): Flag<boolean> {
  return { argument: '', description, parse: () => true, needs };
}

/** Those of one reward per rollout. */
const ESTIMATOR_WORDS = ESTIMATORS.filter((name) => name !== 'gdpo');

function temperatureOrNone(text: string): number | 'none' {
  return text === 'none' ? text : numberWithin({ above: 0 })(text);
}

/** Every option that some loss has, under the name that commander gives it. The recipes say which loss has which. */
export const flagTable = {
  positiveThreshold: number('a rollout is positive if its reward is above this (default 0)'),
  normalizer: number("replaces the objective's whole denominator, for micro-batches", { above: 0 }),
  advantage: word(ESTIMATOR_WORDS, 'how rewards become advantages (default grpo)'),
  ddof: number('standard deviation: 1 of a sample (default), 0 of a population', { min: 0, max: 1, integer: true }, [
    'advantage',
    'grpo',
  ]),
  advantageEps: number('added to the standard deviation (default 1e-4)', { min: 0 }, ['advantage', 'grpo']),
  advantageScale: word(['group', 'batch', 'none'], 'whose standard deviation divides (default group)', [
    'advantage',
    'grpo',
  ]),
  aggregation: word(['sequence-mean', 'token-mean', 'constant-length'], 'how sequences are weighted'),
  maxLength: number('tokens that constant-length divides by; drGrpo must have it', { min: 1, integer: true }, [
    'aggregation',
    'constant-length',
  ]),
  klCoef: number('weight of the KL penalty to ref_logprobs (default 0)', { min: 0 }),
  klEstimator: word(KL_ESTIMATORS, 'estimator of the KL (default k3)', ['klCoef']),
  klReference: word(['ref', 'old'], 'KL to ref_logprobs (default), or to old_logprobs', ['klCoef']),
  klMax: number("cap of a token's estimate (default none)", { above: 0 }, ['klCoef']),
  klWeight: word(['none', 'ratio'], 'multiply the estimates by ratios (default none)', ['klCoef']),
  distillation: number('weight of teacher_logprobs - logprobs as further advantages', { min: 0 }),
  offPolicyMask: number('drop negative advantages of sequences that have moved by more nats', { min: 0 }),
  clipCov: number('share of tokens to drop, drawn from those of large covariance', { min: 0, max: 1 }),
  clipCovLow: number('lower bound of their covariance (default 1)', {}, ['clipCov']),
  clipCovHigh: number('upper bound of it (default 5)', {}, ['clipCov']),
  clipCovSeed: number('which are drawn (default 0)', { min: 0, max: 2 ** 32 - 1, integer: true }, ['clipCov']),
  klCov: number('share of tokens, of the largest covariances, with a KL penalty', { min: 0, max: 1 }),
  klCovCoef: number('weight of that penalty (default 1)', { min: 0 }, ['klCov']),
  rolloutCorrection: word(
    ['token', 'sequence', 'none'],
    'weight by exp(old_logprobs - rollout_logprobs), or only drop and reject as below',
  ),
  rolloutMode: word(['truncate', 'mask'], 'clamp these weights (default), or drop those outside', WEIGHTED),
  rolloutMin: number('their lower bound (default 0)', { min: 0 }, WEIGHTED),
  rolloutMax: number('their upper bound (default 2)', { min: 0 }, WEIGHTED),
  rolloutNormalize: toggle('divide them by their mean', WEIGHTED),
  rolloutSequenceMin: number('drop sequences with a weight below this', { min: 0 }, NOT_BY_SEQUENCE),
  rolloutSequenceMax: number('drop sequences with a weight above this', { min: 0 }, NOT_BY_SEQUENCE),
  rolloutReject: word(REJECTIONS, 'mask those whose KL from rollout_logprobs is outside bounds', ['rolloutCorrection']),
  rolloutRejectMin: number('lower bound of this KL, in nats', {}, ['rolloutReject']),
  rolloutRejectMax: number('upper bound of this KL, in nats', {}, ['rolloutReject']),
  epsilonLow: number('lower clip of the ratio (dppo: bound of the move down)', { min: 0 }),
  epsilonHigh: number('upper clip of the ratio (dppo: bound of the move up)', { min: 0 }),
  dualClip: number('cap of the ratio where advantages are negative (default none)', { min: 1 }),
  delta: number('bound of the unclipped ratio (default none)', { above: 0 }),
  ratioLevel: word(
    ['token', 'sequence', 'sum'],
    "of what the ratio is: a token, or a sequence's mean or summed log-ratio",
  ),
  divergence: word(['tv', 'kl'], 'how far a probability has moved (default tv)'),
  kPos: number('exponent of the weight where the advantage is not negative (default 2)', { min: 0 }),
  lambdaPos: number('lambda of the weight there (default 3)', { above: 0 }),
  kNeg: number('exponent where the advantage is negative (default 3)', { min: 0 }),
  lambdaNeg: number('lambda there (default 2)', { above: 0 }),
  form: word(['advantage', 'discriminative'], 'advantage-weighted (default), or as the gap of mean scores'),
  ratioMin: number('lower bound of the ratio itself (default 0)', { min: 0 }),
  ratioMax: number('upper bound of the ratio itself (default 5; dppo 20)', { min: 0 }),
  tauPos: number('temperature where the advantage is positive (default 1)', { above: 0 }),
  tauNeg: number('temperature elsewhere (default 1.05)', { above: 0 }),
  tau: {
    argument: '<number>',
    description: 'temperature of the contrast, or (disco) none: a plain mean of the negatives',
    parse: temperatureOrNone,
  } satisfies Flag<number | 'none'>,
  margin: number('taken off the positive scores (default 0)'),
  score: word(['logLikelihood', 'ratio'], 'what is contrasted (default logLikelihood)'),
  klConstraint: toggle('add beta/2 max(KL - delta, 0)^2, with KL that to old_logprobs'),
  klBeta: number('beta of the constraint (default 1000)', { min: 0 }, ['klConstraint']),
  klDelta: number('delta of the constraint (default 1e-4)', { min: 0 }, ['klConstraint']),
};

export type FlagName = keyof typeof flagTable;

/** The options given on the command line. */
export type LossFlags = { readonly [Name in FlagName]?: ReturnType<(typeof flagTable)[Name]['parse']> };

export const flagNames = Object.keys(flagTable) as FlagName[];

export function flagOf(name: FlagName): Flag<unknown> {
  return flagTable[name];
}

/** As it is typed: `--max-length`. */
export function spell(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

const option = <V, O>(value: V | undefined, of: (value: V) => O) => (value === undefined ? undefined : of(value));

/** The flags as the library's losses take them. */
export function libraryOptions(flags: LossFlags) {
  const { advantage, ddof, advantageEps, advantageScale, tau, klConstraint, klBeta, klDelta, ...more } = flags;
  const { distillation, offPolicyMask, clipCov, clipCovLow, clipCovHigh, clipCovSeed, klCov, klCovCoef, ...rest } =
    more;
  const { rolloutCorrection, others } = rolloutOptions(rest);
  return {
    ...others,
    rolloutCorrection,
    tau: tau === 'none' ? null : tau,
    advantage: option(advantage, (estimator) => ({
      ...{ estimator, ddof: ddof as 0 | 1 | undefined, eps: advantageEps, scale: advantageScale },
    })),
    distillation: option(distillation, (coef) => ({ coef })),
    offPolicyMask: option(offPolicyMask, (delta) => ({ delta })),
    clipCov: option(clipCov, (ratio) => ({ ratio, low: clipCovLow, high: clipCovHigh, seed: clipCovSeed })),
    klCov: option(klCov, (ratio) => ({ ratio, coef: klCovCoef })),
    klConstraint: klConstraint && { beta: klBeta, delta: klDelta },
  };
}

/** The correction that the flags say, and the flags that say nothing of it. */
function rolloutOptions<F extends LossFlags>({
  rolloutCorrection,
  rolloutMode,
  rolloutMin,
  rolloutMax,
  rolloutNormalize,
  rolloutSequenceMin,
  rolloutSequenceMax,
  rolloutReject,
  rolloutRejectMin,
  rolloutRejectMax,
  ...others
}: F) {
  const masks = rolloutSequenceMin !== undefined || rolloutSequenceMax !== undefined;
  const correction = option(rolloutCorrection, (level) => ({
    ...{ level, mode: rolloutMode, min: rolloutMin, max: rolloutMax, normalize: rolloutNormalize },
    sequenceMask: masks ? { min: rolloutSequenceMin, max: rolloutSequenceMax } : undefined,
    reject: option(rolloutReject, (words) => ({ ...partsOf(words), min: rolloutRejectMin, max: rolloutRejectMax })),
  }));
  return { rolloutCorrection: correction, others };
}

function partsOf(rejection: (typeof REJECTIONS)[number]) {
  const [, level, by] = /^(.*)-(k[13])$/.exec(rejection)!;
  return { by, level };
}
