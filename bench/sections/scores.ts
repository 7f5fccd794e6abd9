// The section `scores`: the mean log-prob and every ratio score, forward and backward.

import {
  type RatioScoreKind,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
} from '../../lib/index.js';
import { RATIO_SCORE_KINDS } from '../../lib/kernels.js';
import { type ExactScores, exactBackward, exactMeans, exactRatioScores } from '../problems/exact.js';
import type { ScoredRollouts } from '../problems/rollouts.js';
import type { Contender } from '../timing.js';
import type { Experiment, Plan } from './experiment.js';
import type { Setting } from './own.js';
import { exactContender, ratioInputs, rolloutExperiment } from './rollout-level.js';

export function scoreExperiments(plan: Plan): Experiment[] {
  return [rolloutExperiment('scores', plan, scoreContenders)];
}

export function scoreContenders(
  rollouts: ScoredRollouts,
  setting: Setting,
  kinds: readonly RatioScoreKind[] = RATIO_SCORE_KINDS,
): Contender[] {
  return [
    ...meanContenders(rollouts, setting),
    ...kinds.map((kind) => ratioContender(rollouts, setting, kind)),
    ratioBackward(rollouts, setting, kinds[0]),
  ];
}

function meanContenders(rollouts: ScoredRollouts, setting: Setting): Contender[] {
  const { gradScores, cuSeqlens, logProbs } = rollouts;
  const { backend } = setting;
  const bytes = logProbs.byteLength;
  const tokenCounts = Float64Array.from(gradScores, (_, i) => cuSeqlens[i + 1] - cuSeqlens[i]);
  const inputs = { gradScores, tokenCounts, cuSeqlens };
  const out = new Float64Array(logProbs.length);
  return [
    exactContender(
      setting,
      'logLikelihood',
      { read: bytes, copied: 0 },
      () => {
        const { scores, tokenCounts: counts } = sequenceLogProbsSync({ logProbs, cuSeqlens }, { backend });
        return [scores, counts];
      },
      () => [exactMeans(rollouts).scores, tokenCounts],
    ),
    exactContender(
      setting,
      'logLikelihood backward',
      { read: 0, copied: 0, written: bytes },
      () => [sequenceLogProbsBackwardSync(inputs, { backend, gradient: { out } }).gradLogProbs],
      () => [exactBackward(gradScores, exactMeans(rollouts).scoreGrads, cuSeqlens)],
    ),
  ];
}

function ratioContender(rollouts: ScoredRollouts, setting: Setting, kind: RatioScoreKind): Contender {
  const inputs = ratioInputs(rollouts, kind);
  const { byteLength } = rollouts.logProbs;
  return exactContender(
    setting,
    kind,
    { read: byteLength, copied: byteLength },
    () => {
      const { scores, scoreGrads } = ratioScoresSync(inputs, { score: { kind }, backend: setting.backend });
      return [scores, scoreGrads];
    },
    () => arraysOf(exactRatioScores(kind, rollouts)),
  );
}

const arraysOf = ({ scores, scoreGrads }: ExactScores) => [scores, scoreGrads];

/** The same for every kind. */
function ratioBackward(rollouts: ScoredRollouts, setting: Setting, kind: RatioScoreKind): Contender {
  const { gradScores, cuSeqlens, logProbs } = rollouts;
  const { backend } = setting;
  const { scoreGrads } = exactRatioScores(kind, rollouts);
  const out = new Float64Array(logProbs.length);
  return exactContender(
    setting,
    'any ratio, backward',
    { read: 0, copied: logProbs.byteLength },
    () => [ratioScoresBackwardSync({ gradScores, scoreGrads, cuSeqlens }, { backend, gradient: { out } }).gradLogProbs],
    () => [exactBackward(gradScores, scoreGrads, cuSeqlens)],
  );
}
