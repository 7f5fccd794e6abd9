import type { OpenPeer } from '../peer.js';
import { callExperiments } from './calls.js';
import type { Experiment, Omission, Plan, SectionName } from './experiment.js';
import { groupExperiments } from './groups.js';
import { linearExperiments } from './linear.js';
import { lossExperiments } from './losses.js';
import { objectiveExperiments } from './objectives.js';
import { scoreExperiments } from './scores.js';
import { sweepExperiments } from './sweep.js';
import { threadExperiments } from './threads.js';
import { tokenExperiments } from './token.js';

type MakeExperiments = (plan: Plan, peers: readonly OpenPeer[]) => Experiment[] | Omission;

const SECTIONS: Readonly<Record<SectionName, MakeExperiments>> = {
  token: tokenExperiments,
  scores: scoreExperiments,
  objectives: objectiveExperiments,
  losses: lossExperiments,
  linear: linearExperiments,
  groups: groupExperiments,
  calls: callExperiments,
  threads: threadExperiments,
  sweep: sweepExperiments,
};

/** What a section measures, or why it cannot. */
export function experimentsOf(section: SectionName, plan: Plan, peers: readonly OpenPeer[]): Experiment[] | Omission {
  return SECTIONS[section](plan, peers);
}
