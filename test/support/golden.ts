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

const file = new URL('../golden/losses.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: GoldenCase[] };

/** The cases of the given kinds, each with a name for a test; throws when there are none. */
export function goldenCases(...kinds: string[]): [name: string, golden: GoldenCase][] {
  const chosen = cases.filter((golden) => kinds.includes(golden.kind));
  if (kinds.some((kind) => !chosen.some((golden) => golden.kind === kind)))
    throw new Error(`no golden case of ${kinds}`);
  return chosen.map((golden, i) => [`${golden.kind} ${i}: V=${golden.input.vocabSize ?? '-'}`, golden]);
}

/** The batch of a case. */
export function goldenBatch({ input }: GoldenCase) {
  return {
    logits: Float32Array.from(input.logits),
    targets: Int32Array.from(input.targets),
    cuSeqlens: Int32Array.from(input.cuSeqlens),
    cuGroups: Int32Array.from(input.cuGroups),
    mask: Uint8Array.from(input.mask),
    rewards: Float32Array.from(input.rewards),
    ...(input.oldLogProbs && { oldLogProbs: Float64Array.from(input.oldLogProbs) }),
    ...(input.refLogProbs && { refLogProbs: Float64Array.from(input.refLogProbs) }),
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
