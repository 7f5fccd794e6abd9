// ConSPO's objective on any score.

import { scoreTask } from '../losses/forward.js';
import type { Objective } from '../losses/loss.js';
import { groupInfoNCETask, type InfoNCEParameters, infoNCEParameters } from '../ops/group-info-nce.js';
import { signs } from './sides.js';

export const infoNCE: Objective<InfoNCEParameters> = (score, _batch, checked, options) => {
  const { rewards, cuGroups, positiveThreshold } = checked;
  infoNCEParameters(options, cuGroups.length - 1); // throws on bad options before any work
  return {
    *evaluate(level) {
      const channel = yield* scoreTask(level, score, { sides: signs(rewards, positiveThreshold) });
      const nce = groupInfoNCETask(channel.scores, rewards, channel.tokenCounts, checked, options);
      const { loss, groupLosses, gradScores } = yield* nce;
      return { losses: [loss], channel, groupLosses, terms: [{ of: 'logProbs', channel, gradScores }] };
    },
  };
};
