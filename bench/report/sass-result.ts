// What `npm run check:sass -- --json` writes: figures of the CUDA kernels' machine code, counted without a GPU.
import * as v from 'valibot';
import { InvalidReport } from './read-report.js';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

const row = v.object({
  pass: v.picklist([
    'forward',
    'forward with entropy',
    'backward',
    'backward with entropy',
    'one pass',
    'one pass with entropy',
  ]),
  dtype: v.picklist(['bf16', 'f16', 'f32']),
  /** 90 for sm_90. */
  architecture: count,
  /** For each thread. */
  registers: count,
  /** Bytes for each block. */
  shared: count,
  threads: count,
  residentBlocks: count,
  /** Of one iteration of the hot loop, as are the next two; of both loops in one pass, but for what is read. */
  instructions: count,
  elements: v.pipe(count, v.minValue(1)),
  /** What a thread reads of global memory. */
  loadBytes: count,
  /** Instructions for each element that the budget allows. */
  limit: v.number(),
});

const result = v.object({
  measurement: v.literal('rlvr-kernels check:sass'),
  date: v.string(),
  git: v.object({ commit: v.nullable(v.string()), dirty: v.nullable(v.boolean()) }),
  nvcc: v.string(),
  rows: v.array(row),
});

export type SassRow = v.InferOutput<typeof row>;
export type SassResult = v.InferOutput<typeof result>;

/** The value, if it is such a result; else throws an InvalidReport. */
export function checkSassResult(value: unknown): SassResult {
  const { success, output, issues } = v.safeParse(result, value, { abortEarly: true });
  if (!success) throw new InvalidReport(`${v.getDotPath(issues[0]) ?? 'the file'}: ${issues[0].message}`);
  return output;
}
