// What is left out may be `undefined` too, for users of `exactOptionalPropertyTypes`: results.test.ts compiles this file with it.
import { openDevice } from '../../lib/cuda/index.js';
import {
  advantages,
  conspo,
  cosineMargin,
  defineLoss,
  disco,
  drGrpo,
  forward,
  fromRollouts,
  fromTrl,
  fromVerl,
  grpo,
  type HostTensor,
  infoNCE,
  linearLogProbs,
  losses,
  type Metrics,
  mergeMetrics,
  microBatches,
  padded,
  passAtK,
  RunningRewards,
  ratioScores,
  real,
  type TrlConfig,
  tokenLogProbs,
  tokenLogProbsBackward,
  type VerlConfig,
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

const rows = { shape: [1, 2] as const, mask: new Uint8Array(2), oldLogProbs: f32, cuSeqlens: undefined };
padded({ ...rows, logits, targets: i32, vocab: number, hidden: undefined, logProbs: undefined });
padded({ ...rows, hidden: logits, weight: logits, bias: f32, targets: i32, logits: undefined, vocab: undefined });
padded({ ...rows, logProbs: f64, logits: undefined, targets: undefined });
/** Every property that may be left out, as undefined. */
type AllUndefined<T> = { [K in keyof T]: undefined };
declare const trl: AllUndefined<TrlConfig>;
declare const verl: AllUndefined<VerlConfig>;
fromTrl(trl);
fromVerl(verl, { length: 1 });
fromRollouts({ promptIds: [], answers: [], rewards: [], logProbs: undefined, answerMask: undefined }, undefined);
microBatches(
  { cuSeqlens: i32, mask: undefined },
  { tokens: number, sequences: number, loss: 'grpo', options: undefined },
);
declare const metrics: Record<keyof Metrics, number | undefined>;
mergeMetrics([{ batch: { cuSeqlens: i32, shape: undefined, cuGroups: undefined }, options: undefined }], [{ metrics }]);
passAtK({ rewards: f64, cuGroups: i32, groupOrder: undefined }, { k: 1, positiveThreshold: number });
new RunningRewards({ center: flag, state: undefined });
defineLoss({ score: 'logLikelihood', objective: infoNCE, defaults: undefined, parameters: undefined });
const device = openDevice(0, { stream: undefined, owner: undefined });
device.uploadSync({ data: logits, shape }, { out: undefined });
device.wrap({ pointer: 256n, shape, dtype: 'f32', rowStride: number, stream: undefined, owner: undefined });

// @ts-expect-error what may not be left out may not be undefined
conspo({ ...fromLogits, cuSeqlens: undefined });
// @ts-expect-error nor may the length be
drGrpo(policy, { maxLength: number });
