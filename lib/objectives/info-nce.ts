// ConSPO's objective on any score.

import { scoreTask } from '../losses/forward.js';
import type { Objective } from '../losses/loss.js';
import { groupInfoNCETask, type InfoNCEParameters, infoNCEParameters } from '../ops/group-info-nce.js';
import { signs } from './sides.js';

export const infoNCE: Objective<InfoNCEParameters> = (score, _batch, { rewards, cuGroups }, options) => {
  const { positiveThreshold } = infoNCEParameters(options, cuGroups.length - 1);
  return function* (level) {
    const channel = yield* scoreTask(level, score, signs(rewards, positiveThreshold));
    const { loss, groupLosses, gradScores } = yield* groupInfoNCETask(channel.scores, rewards, cuGroups, options);
    return { loss, channel, groupLosses, terms: [{ channel, gradScores }] };
  };
};
