// Seeded random batches.

/** A small seeded generator (mulberry32), uniform in [0, 1). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

export interface RandomBatchShape {
  vocab: number;
  groups: number;
  scale?: number; // of the logits
}

/** Groups of 0 to 5 sequences of 0 to 8 tokens, with a mask, old and reference log-probs near the current ones. */
export function randomBatch(seed: number, { vocab, groups, scale = 2 }: RandomBatchShape) {
  const random = generator(seed);
  const upTo = (n: number) => Math.floor(random() * (n + 1));
  const cuGroups = offsets(Array.from({ length: groups }, () => upTo(5)));
  const cuSeqlens = offsets(Array.from({ length: cuGroups[groups] }, () => upTo(8)));
  const tokens = cuSeqlens[cuSeqlens.length - 1];
  const logits = Float32Array.from({ length: tokens * vocab }, () => scale * normal(random));
  const targets = Int32Array.from({ length: tokens }, () => upTo(vocab - 1));
  const near = (spread: number) =>
    Float64Array.from(targets, (y, t) => logProb(logits, vocab, t, y) + spread * normal(random));
  return {
    logits,
    targets,
    cuSeqlens,
    cuGroups,
    mask: Uint8Array.from({ length: tokens }, () => (random() < 0.85 ? 1 : 0)),
    rewards: Float32Array.from({ length: cuSeqlens.length - 1 }, () => (random() < 0.5 ? 1 : 0)),
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
    cuSeqlens: offsets(lengths('cuSeqlens')),
    cuGroups: offsets(lengths('cuGroups')),
  };
}

function offsets(lengths: number[]): Int32Array {
  const cu = new Int32Array(lengths.length + 1);
  lengths.forEach((length, i) => {
    cu[i + 1] = cu[i] + length;
  });
  return cu;
}

function logProb(logits: Float32Array, vocab: number, t: number, y: number): number {
  const row = logits.subarray(t * vocab, (t + 1) * vocab);
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return row[y] - max - Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
}
