// What is left out may be `undefined` too, for users of `exactOptionalPropertyTypes`: results.test.ts compiles this file with it.
import {
  advantages,
  conspo,
  cosineMargin,
  disco,
  drGrpo,
  forward,
  grpo,
  type HostTensor,
  linearLogProbs,
  losses,
  ratioScores,
  real,
  tokenLogProbs,
  tokenLogProbsBackward,
  vespo,
} from '../../lib/index.js';

declare const f32: Float32Array | undefined;
declare const f64: Float64Array;
declare const logits: Float32Array;
declare const i32: Int32Array;
declare const number: number | undefined;
declare const flag: boolean | undefined;
declare const signal: AbortSignal | undefined;
declare const shape: readonly [number, number];

const packed = { cuSeqlens: i32, cuGroups: i32, rewards: f64 };
const fields = { oldLogProbs: f32, rolloutLogProbs: f32, mask: undefined, groupOrder: undefined };
const fromLogits = { logits, targets: i32, keptIds: undefined, cuKept: undefined, ...packed, ...fields };
const policy = { ...fromLogits, refLogProbs: f32, teacherLogProbs: f32, tokenWeights: f32, rolloutWeights: f32 };
const options = {
  ...{ temperature: number, positiveThreshold: number, chunkBytes: number, normalizer: number, onNonFinite: undefined },
  ...{ entropy: flag, logProbs: flag, expectOnPolicy: flag, signal, copyInputs: flag, backend: undefined },
};
const additions = {
  ...{ aggregation: undefined, maxLength: number, klCoef: number, klMax: number, entropyCoef: number, perToken: flag },
  ...{ advantage: { estimator: undefined, ddof: undefined, eps: number, scale: undefined, weights: undefined } },
  ...{ rolloutCorrection: { level: undefined, max: number, reject: undefined, sequenceMask: undefined } },
  ...{ distillation: undefined, offPolicyMask: undefined, clipCov: undefined, klCov: { ratio: number, coef: number } },
};

conspo(fromLogits, { ...options, tau: number, margin: number, gradient: undefined });
grpo(
  { ...policy, advantages: f32 },
  { ...options, ...additions, epsilonLow: number, dualClip: number, form: undefined },
);
grpo({
  logProbs: f64,
  cuSeqlens: i32,
  advantages: f64,
  rewards: undefined,
  cuGroups: undefined,
  groupOrder: undefined,
});
drGrpo(policy, { ...options, ...additions, maxLength: 8 });
disco(fromLogits, { ...options, tau: number, klConstraint: { beta: number, delta: undefined } });
real(fromLogits, { ...options, tau: number });
vespo(policy, { ...options, kPos: number, lambdaNeg: number });
losses.grpo(policy, { ...options, tau: number });
forward(fromLogits, { kind: 'clippedRatio', epsilonLow: number }, { sides: f32, temperature: number });
advantages({ ...packed, mask: undefined, tokenCounts: f32 }, { estimator: undefined });
tokenLogProbs({ logits, targets: i32, mask: undefined }, { temperature: number, entropy: flag, signal });
const upstream = { targets: i32, logSumExp: f64, gradLogProbs: f64, entropy: f32, gradEntropy: f32 };
tokenLogProbsBackward({ logits, ...upstream, mask: undefined }, { gradient: undefined, temperature: number });
linearLogProbs({ hidden: logits, weight: logits, bias: f32, targets: i32 }, { temperature: number });
ratioScores({ logProbs: f64, oldLogProbs: f32, cuSeqlens: i32, mask: undefined }, { score: undefined });
cosineMargin({ target: number, warmup: number });
const tensor: HostTensor = { data: logits, shape: [...shape], dtype: undefined, rowStride: number };
conspo({ ...fromLogits, logits: tensor }, { gradient: 'in-place' });

// @ts-expect-error what may not be left out may not be undefined
conspo({ ...fromLogits, cuSeqlens: undefined });
// @ts-expect-error nor may the length be
drGrpo(policy, { maxLength: number });
