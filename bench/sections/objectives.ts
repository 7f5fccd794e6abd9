// The section `objectives`: the group level, and it together with the sequence level: op by op, and as the losses of log-probs do it.
import {
  advantageObjectiveSync,
  conspoSync,
  groupInfoNCESync,
  grpoSync,
  ratioScoresBackwardSync,
  ratioScoresSync,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
} from '../../lib/index.js';
import {
  exactAdvantageWeighted,
  exactBackward,
  exactInfoNce,
  exactMeans,
  exactRatioScores,
} from '../problems/exact.js';
import type { ScoredRollouts } from '../problems/rollouts.js';
import type { Contender } from '../timing.js';
import type { Experiment, Plan } from './experiment.js';
import type { Setting } from './own.js';
import { exactContender, ratioInputs, rolloutExperiment } from './rollout-level.js';

const TAU = 0.1;

export function objectiveExperiments(plan: Plan): Experiment[] {
  return [rolloutExperiment('objectives', plan, objectiveContenders)];
}

export function infoNceContender(rollouts: ScoredRollouts, setting: Setting): Contender {
  const { rewards, cuGroups } = rollouts;
  const { scores } = exactMeans(rollouts);
  return exactContender(
    setting,
    'groupInfoNCE',
    { read: scores.byteLength, copied: scores.byteLength },
    () => {
      const { loss, gradScores } = groupInfoNCESync(
        { scores, rewards, cuGroups },
        { tau: TAU, backend: setting.backend },
      );
      return [[loss], gradScores];
    },
    () => {
      const { loss, gradScores } = exactInfoNce(scores, rewards, cuGroups, TAU);
      return [[loss], gradScores];
    },
  );
}

function advantageContender(rollouts: ScoredRollouts, setting: Setting): Contender {
  const { advantages, cuSeqlens } = rollouts;
  const { scores } = exactMeans(rollouts);
  const tokenCounts = Float64Array.from(scores, (_, i) => cuSeqlens[i + 1] - cuSeqlens[i]);
  return exactContender(
    setting,
    'advantageObjective',
    { read: 2 * scores.byteLength, copied: scores.byteLength },
    () => {
      const { loss, gradScores } = advantageObjectiveSync(
        { scores, advantages, tokenCounts },
        { backend: setting.backend },
      );
      return [[loss], gradScores];
    },
    () => {
      const { loss, gradScores } = exactAdvantageWeighted(scores, advantages);
      return [[loss], gradScores];
    },
  );
}

function objectiveContenders(rollouts: ScoredRollouts, setting: Setting): Contender[] {
  return [
    infoNceContender(rollouts, setting),
    advantageContender(rollouts, setting),
    conspoByOps(rollouts, setting),
    grpoByOps(rollouts, setting),
    ...lossesOfLogProbs(rollouts, setting),
  ];
}

/** Scores, objective, gradient of the log-probs into a preallocated array: what conspo does besides its token level. */
function conspoByOps(rollouts: ScoredRollouts, setting: Setting): Contender {
  const { logProbs, cuSeqlens, cuGroups, rewards } = rollouts;
  const { backend } = setting;
  const { byteLength } = logProbs;
  const out = new Float64Array(logProbs.length);
  return exactContender(
    setting,
    'conspo, op by op',
    { read: byteLength, copied: 0, written: byteLength },
    () => {
      const { scores, tokenCounts } = sequenceLogProbsSync({ logProbs, cuSeqlens }, { backend });
      const { loss, gradScores } = groupInfoNCESync({ scores, rewards, cuGroups, tokenCounts }, { tau: TAU, backend });
      const inputs = { gradScores, tokenCounts, cuSeqlens };
      return [[loss], sequenceLogProbsBackwardSync(inputs, { backend, gradient: { out } }).gradLogProbs];
    },
    () => exactConspo(rollouts),
  );
}

function exactConspo(rollouts: ScoredRollouts): ArrayLike<number>[] {
  const { scores, scoreGrads } = exactMeans(rollouts);
  const { loss, gradScores } = exactInfoNce(scores, rollouts.rewards, rollouts.cuGroups, TAU);
  return [[loss], exactBackward(gradScores, scoreGrads, rollouts.cuSeqlens)];
}

/** The same of grpo, with advantages given. */
function grpoByOps(rollouts: ScoredRollouts, setting: Setting): Contender {
  const { logProbs, cuSeqlens, advantages } = rollouts;
  const { backend } = setting;
  const { byteLength } = logProbs;
  const inputs = ratioInputs(rollouts, 'clippedRatio');
  const out = new Float64Array(logProbs.length);
  return exactContender(
    setting,
    'grpo, op by op',
    { read: 2 * byteLength, copied: 0, written: byteLength },
    () => {
      const score = ratioScoresSync(inputs, { score: { kind: 'clippedRatio' }, backend });
      const { loss, gradScores } = advantageObjectiveSync({ ...score, advantages }, { backend });
      const backward = { ...score, gradScores, cuSeqlens };
      const { gradLogProbs } = ratioScoresBackwardSync(backward, { backend, gradient: { out } });
      return [[loss], gradLogProbs];
    },
    () => {
      const { scores, scoreGrads } = exactRatioScores('clippedRatio', rollouts);
      const { loss, gradScores } = exactAdvantageWeighted(scores, advantages);
      return [[loss], exactBackward(gradScores, scoreGrads, cuSeqlens)];
    },
  );
}

/** The losses as they are, with validation, advantages and metrics. */
function lossesOfLogProbs(rollouts: ScoredRollouts, setting: Setting): Contender[] {
  const { byteLength } = rollouts.logProbs;
  const { gradScores: _, advantages: __, ...batch } = rollouts;
  const moves = { read: 2 * byteLength, copied: 0, written: byteLength };
  const answer = ({ loss, gradLogProbs }: { loss: number; gradLogProbs: ArrayLike<number> }) => [[loss], gradLogProbs];
  const { backend } = setting;
  return [
    exactContender(
      setting,
      'conspo from log-probs',
      moves,
      () => answer(conspoSync(batch, { tau: TAU, backend })),
      () => exactConspo(rollouts),
    ),
    exactContender(
      setting,
      'grpo from log-probs',
      moves,
      () => answer(grpoSync(batch, { backend })),
      () => answer(grpoSync(batch, { backend: 'reference' })),
    ),
  ];
}
