// Seeded random batches.
import { Random } from '../../bench/problems/random.js';
import { offsetsOf } from '../../bench/problems/rollouts.js';

export interface RandomBatchShape {
  vocab: number;
  groups: number;
  scale?: number; // of the logits
}

/** Groups of 0 to 5 sequences of 0 to 8 tokens, with a mask, old and reference log-probs near the current ones. */
export function randomBatch(seed: number, { vocab, groups, scale = 2 }: RandomBatchShape) {
  const random = new Random(seed);
  const upTo = (n: number) => Math.floor(random.uniform() * (n + 1));
  const cuGroups = offsetsOf(Array.from({ length: groups }, () => upTo(5)));
  const cuSeqlens = offsetsOf(Array.from({ length: cuGroups[groups] }, () => upTo(8)));
  const tokens = cuSeqlens[cuSeqlens.length - 1];
  const logits = Float32Array.from({ length: tokens * vocab }, () => scale * random.normal());
  const targets = Int32Array.from({ length: tokens }, () => upTo(vocab - 1));
  const near = (spread: number) =>
    Float64Array.from(targets, (y, t) => -Math.abs(logProb(logits, vocab, t, y) + spread * random.normal()));
  return {
    logits,
    targets,
    cuSeqlens,
    cuGroups,
    mask: Uint8Array.from({ length: tokens }, () => (random.uniform() < 0.85 ? 1 : 0)),
    rewards: Float32Array.from({ length: cuSeqlens.length - 1 }, () => (random.uniform() < 0.5 ? 1 : 0)),
    oldLogProbs: near(0.3),
    refLogProbs: near(0.3),
  };
}

type RandomBatch = ReturnType<typeof randomBatch>;

/** Batches of log-probs (the old ones stand in for the current) packed into one. */
export function joinLogProbBatches(parts: RandomBatch[]) {
  const values = (key: 'oldLogProbs' | 'refLogProbs' | 'mask' | 'rewards') =>
    parts.flatMap((part) => Array.from<number>(part[key]));
  const lengths = (key: 'cuSeqlens' | 'cuGroups') =>
    parts.flatMap((part) => Array.from(part[key].slice(1), (end, i) => end - part[key][i]));
  return {
    logProbs: Float64Array.from(values('oldLogProbs')),
    refLogProbs: Float64Array.from(values('refLogProbs')),
    mask: Uint8Array.from(values('mask')),
    rewards: Float32Array.from(values('rewards')),
    cuSeqlens: offsetsOf(lengths('cuSeqlens')),
    cuGroups: offsetsOf(lengths('cuGroups')),
  };
}

function logProb(logits: Float32Array, vocab: number, t: number, y: number): number {
  const row = logits.subarray(t * vocab, (t + 1) * vocab);
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return row[y] - max - Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
}
