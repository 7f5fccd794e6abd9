// The golden cases, as typed batches.
import { readFileSync } from 'node:fs';

type Numbers = number[];

interface GoldenInput {
  vocabSize: number;
  targets: Numbers;
  cuSeqlens: Numbers;
  cuGroups: Numbers;
  mask: Numbers;
  rewards: Numbers;
  logits: Numbers;
  oldLogProbs?: Numbers;
  refLogProbs?: Numbers;
  teacherLogProbs?: Numbers;
  rolloutLogProbs?: Numbers;
  scores: Numbers;
}

export interface GoldenCase {
  kind: string;
  input: GoldenInput;
  options: Record<string, never>;
  gradLogProbs: Numbers;
  gradEntropy: Numbers;
  expected: Record<
    | 'logProbs'
    | 'logSumExp'
    | 'entropy'
    | 'gradLogits'
    | 'gradLogitsWithEntropy'
    | 'scores'
    | 'groupLosses'
    | 'gradScores'
    | 'gradLogProbs'
    | 'advantages',
    Numbers
  > & { loss: number };
}

/** From hidden states: `logits` is what they and the layer make of it. */
export interface LinearGoldenCase extends Pick<GoldenCase, 'kind' | 'options'> {
  input: Omit<GoldenInput, 'logits' | 'scores'> &
    Record<'hidden' | 'weight' | 'bias', Numbers> & { hiddenSize: number };
  expected: Record<'gradHidden' | 'gradWeight' | 'gradBias', Numbers> & { loss: number };
}

interface AnyCase {
  kind: string;
  input: { vocabSize?: number };
}

function casesIn<Case extends AnyCase>(name: string): Case[] {
  const file = new URL(`../golden/${name}`, import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { cases: Case[] }).cases;
}

/** The cases of the given kinds, each with a name for a test; throws when there are none. */
function named<Case extends AnyCase>(cases: Case[], kinds: string[]): [name: string, golden: Case][] {
  const chosen = cases.filter((golden) => kinds.includes(golden.kind));
  if (kinds.some((kind) => !chosen.some((golden) => golden.kind === kind)))
    throw new Error(`no golden case of ${kinds}`);
  return chosen.map((golden, i) => [`${golden.kind} ${i}: V=${golden.input.vocabSize ?? '-'}`, golden]);
}

const cases = casesIn<GoldenCase>('losses.json');

export function goldenCases(...kinds: string[]): [name: string, golden: GoldenCase][] {
  return named(cases, kinds);
}

/** Cases of advantages; `rewards` [N] or [N, K]. */
export interface EstimatorGoldenCase {
  kind: string;
  input: Record<'cuSeqlens' | 'cuGroups' | 'mask' | 'rewards', Numbers> & { vocabSize?: number };
  options: { estimator: string; eps: number; weights?: Numbers };
  expected: { advantages: Numbers; per: 'sequence' | 'token' };
}

export function estimatorGoldenCases(): [name: string, golden: EstimatorGoldenCase][] {
  const cases = casesIn<EstimatorGoldenCase>('more.json');
  return named(cases, ['estimator']).map(([name, golden]) => [`${name} ${golden.options.estimator}`, golden]);
}

/** Cases of masks and distillation; their options have objects. */
export function policyGoldenCases(...kinds: string[]): [name: string, golden: GoldenCase][] {
  return named(casesIn<GoldenCase>('more.json'), kinds);
}

export function linearGoldenCases(...kinds: string[]): [name: string, golden: LinearGoldenCase][] {
  return named(casesIn<LinearGoldenCase>('more.json'), kinds);
}

/** Of the losses that came later. */
export function laterGoldenCases(...kinds: string[]): [name: string, golden: GoldenCase][] {
  return named(casesIn<GoldenCase>('more.json'), kinds);
}

interface ReplayGoldenCase {
  kind: string;
  input: Omit<GoldenInput, 'scores'> & Record<'keptIds' | 'cuKept', Numbers>;
  options: { temperature: number };
  gradLogProbs: Numbers;
  expected: Record<'logProbs' | 'logSumExp' | 'gradLogits', Numbers>;
}

/** Of sampling replay, with an upstream gradient. Like those of `tokenLogProbs` they ignore their mask. */
export function replayGoldenCases() {
  return named(casesIn<ReplayGoldenCase>('more.json'), ['replay']).map(([name, { input, options, ...golden }]) => {
    const batch = {
      logits: Float32Array.from(input.logits),
      ...sequenceFields(input),
      keptIds: Int32Array.from(input.keptIds),
      cuKept: Int32Array.from(input.cuKept),
    };
    const { expected, gradLogProbs } = golden;
    return [name, { batch, ...options, gradLogProbs: Float64Array.from(gradLogProbs), expected }] as const;
  });
}

/** The batch of a case. */
export function goldenBatch({ input }: GoldenCase) {
  return {
    logits: Float32Array.from(input.logits),
    ...sequenceFields(input),
  };
}

/** What the batch of a case has beside its logits. */
export function sequenceFields(input: Omit<GoldenInput, 'logits' | 'scores'>) {
  return {
    targets: Int32Array.from(input.targets),
    cuSeqlens: Int32Array.from(input.cuSeqlens),
    cuGroups: Int32Array.from(input.cuGroups),
    mask: Uint8Array.from(input.mask),
    rewards: Float32Array.from(input.rewards),
    ...(input.oldLogProbs && { oldLogProbs: Float64Array.from(input.oldLogProbs) }),
    ...(input.rolloutLogProbs && { rolloutLogProbs: Float64Array.from(input.rolloutLogProbs) }),
    ...(input.refLogProbs && { refLogProbs: Float64Array.from(input.refLogProbs) }),
    ...(input.teacherLogProbs && { teacherLogProbs: Float64Array.from(input.teacherLogProbs) }),
  };
}

/** Options as the golden cases' oracle had them: the soft gate's temperatures in float32, which shows in the 8th digit. */
export function asInOracle(options: GoldenCase['options']): GoldenCase['options'] {
  const entries = Object.entries<number>(options).map(([key, value]) => [
    key,
    key.startsWith('tau') ? Math.fround(value) : value,
  ]);
  return Object.fromEntries(entries);
}
