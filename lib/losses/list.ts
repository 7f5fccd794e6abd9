// Every loss with a name, once: what demo, loss, verify, bench and the tests go through.
import { bnpoLoss } from './bnpo.js';
import { cispoLoss } from './cispo.js';
import { conspoLoss } from './conspo.js';
import { dapoLoss } from './dapo.js';
import { discoLoss } from './disco.js';
import { dppoLoss } from './dppo.js';
import { drGrpoLoss } from './dr-grpo.js';
import { gmpoLoss } from './gmpo.js';
import { grpoLoss } from './grpo.js';
import { gspoLoss } from './gspo.js';
import { luspoLoss } from './luspo.js';
import { realLoss } from './real.js';
import { sapoLoss } from './sapo.js';
import { vespoLoss } from './vespo.js';

export const LOSSES = {
  conspo: conspoLoss,
  grpo: grpoLoss,
  dapo: dapoLoss,
  bnpo: bnpoLoss,
  drGrpo: drGrpoLoss,
  gspo: gspoLoss,
  luspo: luspoLoss,
  gmpo: gmpoLoss,
  cispo: cispoLoss,
  dppo: dppoLoss,
  vespo: vespoLoss,
  sapo: sapoLoss,
  disco: discoLoss,
  real: realLoss,
};

/** The name of a loss. */
export type LossName = keyof typeof LOSSES;

export const LOSS_NAMES = Object.keys(LOSSES) as LossName[];
