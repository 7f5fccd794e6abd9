// What a section is made of: experiments, each one set of contenders that take turns.
import type { BackendName, DType } from '../../lib/index.js';
import type { TokenShape } from '../problems/data.js';
import type { LinearShape } from '../problems/linear.js';
import type { Lengths } from '../problems/rollouts.js';
import type { Comparison, Section } from '../report/report.js';
import type { Contender, MeasureOptions } from '../timing.js';
import type { Measured } from './comparisons.js';
import type { LossFunction } from './loss-functions.js';

/** What can be asked for, in the order in which they run. */
export const sectionNames = [
  'token',
  'scores',
  'objectives',
  'losses',
  'linear',
  'groups',
  'calls',
  'threads',
  'sweep',
] as const;
export type SectionName = (typeof sectionNames)[number];
export const defaultSections: readonly SectionName[] = ['token', 'scores', 'objectives', 'losses'];

/** Of an experiment's rounds: a contender that takes longer than this in all sits some of them out. */
export const BUDGET_SECONDS = 20;

export interface Plan {
  readonly shapes: readonly TokenShape[];
  readonly dtypes: readonly DType[];
  /** f32 alone unless dtypes were asked for. */
  readonly lossDtypes: readonly DType[];
  readonly linearShapes: readonly LinearShape[];
  readonly linearDtypes: readonly DType[];
  readonly backends: readonly BackendName[];
  readonly sequences: number;
  readonly lengths: Lengths | undefined;
  readonly groupSize: number;
  readonly losses: Readonly<Record<string, LossFunction>>;
  readonly seed: number;
}

export interface Experiment {
  readonly section: Section;
  readonly title: string;
  /** Of its data: how long `open` takes. */
  readonly elements: number;
  /** Makes the data. */
  open(): Contender[] | Promise<Contender[]>;
  compare(measured: Measured): Comparison[];
  close?(): void;
  readonly rounds?: Partial<MeasureOptions>;
  /** What the reader should know about it. */
  readonly note?: string;
}

/** Why a section cannot run here. */
export interface Omission {
  readonly reason: string;
}
