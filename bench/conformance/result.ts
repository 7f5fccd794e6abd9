// What `npm run conformance` writes: how far this package's losses are from those of other projects, on the same numbers.
import * as v from 'valibot';
import { InvalidReport } from '../report/read-report.js';

const difference = v.pipe(v.number(), v.minValue(0));

const row = v.object({
  trainer: v.picklist(['TRL', 'verl']),
  part: v.string(),
  /** By the trainer's names. */
  setting: v.string(),
  /** How it is written here. */
  call: v.string(),
  /** Relative differences; none where the package refused the call. */
  loss: v.optional(difference),
  gradient: v.optional(difference),
  advantages: v.optional(difference),
  /** What the package said. */
  refused: v.optional(v.string()),
  /** Why the two agree to `NEARLY` only. */
  nearly: v.optional(v.string()),
  /** What of the setting has no counterpart. */
  without: v.array(v.string()),
});

const accuracy = v.object({
  by: v.string(),
  how: v.string(),
  dtype: v.picklist(['f32', 'bf16']),
  /** What the logits are. */
  logits: v.string(),
  /** The largest absolute error of a log-prob, in nats. */
  logProb: difference,
  /** The largest error of a gradient, relative to the largest gradient. */
  gradient: difference,
  /** The largest relative error of the gradient at a target. */
  target: difference,
});

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** When something ran, and with what. */
const run = {
  date: v.string(),
  git: v.object({ commit: v.nullable(v.string()), dirty: v.nullable(v.boolean()) }),
  /** Of this package, of what it is compared with, and of what these run on. */
  versions: v.record(v.string(), v.string()),
};

const ligerRow = v.object({
  part: v.string(),
  /** By Liger's names, without what varies from test to test. */
  setting: v.string(),
  /** How it is written here. */
  call: v.string(),
  /** The tests, by what the function was given. */
  tests: v.record(v.string(), count),
  dtypes: v.array(v.picklist(['f32', 'bf16', 'f16'])),
  /** Those that did not pass as they are, by their outcome. */
  notPassed: v.record(v.string(), count),
});

const liger = v.object({
  ...run,
  /** How many tests came to each end. */
  outcomes: v.object({
    ...{ passed: count, theirs: count, refused: count, failed: count },
    ...{ skipped: count, 'left out': count },
  }),
  /** Why tests did not pass. */
  reasons: v.array(v.object({ outcome: v.string(), reason: v.string(), tests: count, first: v.string() })),
  rows: v.array(ligerRow),
});

const result = v.object({
  measurement: v.literal('rlvr-kernels conformance'),
  ...run,
  rows: v.array(row),
  accuracy: v.array(accuracy),
  /** Liger's own tests, which may have run at another time. */
  liger: v.optional(liger),
});

export type ConformanceRow = v.InferOutput<typeof row>;
export type AccuracyRow = v.InferOutput<typeof accuracy>;
export type ConformanceResult = v.InferOutput<typeof result>;
export type LigerRow = v.InferOutput<typeof ligerRow>;
export type LigerResult = v.InferOutput<typeof liger>;

/** The value, if it is such a result; else throws an InvalidReport. */
export function checkConformance(value: unknown): ConformanceResult {
  const { success, output, issues } = v.safeParse(result, value, { abortEarly: true });
  if (!success) throw new InvalidReport(`${v.getDotPath(issues[0]) ?? 'the file'}: ${issues[0].message}`);
  return output;
}

/** Within what a trainer's numbers must be met: TRL is given logits, which this package takes in float32; verl log-probs in float64. */
export const TOLERANCES = { TRL: 1e-6, verl: 1e-12 };

/** Within what they agree where a small constant of the other is the reason. */
export const NEARLY = 1e-7;

export type Outcome = 'agrees' | 'nearly' | 'differs' | 'refused';

/** Whether a row agrees, does but for a known constant, differs, or cannot be expressed. */
export function outcome({ trainer, nearly, ...row }: ConformanceRow): Outcome {
  const differences = [row.loss, row.gradient, row.advantages].filter((difference) => difference !== undefined);
  if (differences.length === 0) return 'refused';
  const worst = Math.max(...differences);
  if (worst <= TOLERANCES[trainer]) return 'agrees';
  return nearly !== undefined && worst <= NEARLY ? 'nearly' : 'differs';
}
