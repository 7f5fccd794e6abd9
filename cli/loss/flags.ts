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
  /** The flag, perhaps with one value, without which this one would change nothing. */
  readonly needs?: readonly [flag: string, value?: string];
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
  rolloutCorrection: word(['token', 'sequence'], 'weight by exp(old_logprobs - rollout_logprobs)'),
  rolloutMode: word(['truncate', 'mask'], 'clamp these weights (default), or drop those outside', [
    'rolloutCorrection',
  ]),
  rolloutMin: number('their lower bound (default 0)', { min: 0 }, ['rolloutCorrection']),
  rolloutMax: number('their upper bound (default 2)', { min: 0 }, ['rolloutCorrection']),
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
  klConstraint: {
    argument: '',
    description: 'add beta/2 max(KL - delta, 0)^2, with KL that to old_logprobs',
    parse: () => true,
  } satisfies Flag<boolean>,
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

/** The flags as the library's losses take them. */
export function libraryOptions({
  advantage,
  ddof,
  advantageEps,
  advantageScale,
  rolloutCorrection,
  rolloutMode,
  rolloutMin,
  rolloutMax,
  klConstraint,
  klBeta,
  klDelta,
  tau,
  ...others
}: LossFlags) {
  return {
    ...others,
    tau: tau === 'none' ? null : tau,
    advantage: advantage && {
      estimator: advantage,
      ddof: ddof as 0 | 1 | undefined,
      eps: advantageEps,
      scale: advantageScale,
    },
    rolloutCorrection: rolloutCorrection && {
      level: rolloutCorrection,
      mode: rolloutMode,
      min: rolloutMin,
      max: rolloutMax,
    },
    klConstraint: klConstraint && { beta: klBeta, delta: klDelta },
  };
}
