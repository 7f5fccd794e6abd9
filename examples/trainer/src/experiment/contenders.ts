// Who is compared: ConSPO, its four ablations, and the losses that the paper compares it with or that came after.
import type { AnyLossOptions } from 'rlvr-kernels';
import type { Margin } from '../recipes.js';

/** What a contender may be tuned in, besides its learning rate. */
export interface Choice {
  options?: AnyLossOptions;
  margin?: Margin;
}

export interface Contender {
  name: string;
  title: string;
  /** Of `RECIPES`. */
  loss: string;
  /** Tuned over these; one is no choice. */
  choices: readonly Choice[];
}

const taus = (values: readonly number[]): Choice[] => values.map((tau) => ({ options: { tau } }));

/** Tuned by themselves. */
export const CONTENDERS: readonly Contender[] = [
  { name: 'conspo-no-margin', title: 'ConSPO, no margin', loss: 'conspo', choices: taus([0.1, 0.3, 1]) },
  { name: 'conspo-linear', title: 'ConSPO, linear objective', loss: 'conspoLinear', choices: [{}] },
  { name: 'conspo-ratio', title: 'ConSPO, clipped-ratio scores', loss: 'conspoRatio', choices: taus([0.05, 0.3]) },
  { name: 'grpo', title: 'GRPO', loss: 'grpo', choices: [{}] },
  { name: 'dapo', title: 'DAPO', loss: 'dapo', choices: [{}] },
  { name: 'drGrpo', title: 'Dr. GRPO', loss: 'drGrpo', choices: [{}] },
  { name: 'cispo', title: 'CISPO', loss: 'cispo', choices: [{}] },
  { name: 'gmpo', title: 'GMPO', loss: 'gmpo', choices: [{}] },
  { name: 'sapo', title: 'SAPO', loss: 'sapo', choices: [{}] },
  { name: 'disco', title: 'DisCO', loss: 'disco', choices: taus([1, 10]) },
];

/** Their margin is tuned with the learning rate and tau of ConSPO without one. */
export const WITH_MARGIN = [
  { name: 'conspo', title: 'ConSPO', loss: 'conspo' },
  { name: 'conspo-fixed-margin', title: 'ConSPO, fixed margin', loss: 'conspo' },
] as const;

export const TARGETS = [0.1, 0.3, 1];
/** The share of a run over which ConSPO's margin grows. */
export const WARMUP = 0.5;

/** In the order of the tables. */
export const ORDER: readonly { name: string; title: string }[] = [
  WITH_MARGIN[0],
  CONTENDERS[0]!,
  WITH_MARGIN[1],
  ...CONTENDERS.slice(1),
];
