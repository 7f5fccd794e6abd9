// What the compiler knows of results: `npm run typecheck` and results.test.ts compile this file; nothing runs it.
import {
  type AnyLossOptions,
  conspo,
  conspoSync,
  type DrGrpoOptions,
  type DTypeName,
  drGrpo,
  drGrpoSync,
  type Forward,
  forward,
  type GroupInfoNCE,
  grpo,
  grpoSync,
  type HostTensor,
  type LossName,
  linearLogProbsBackward,
  linearLogProbsBackwardSync,
  losses,
  lossesSync,
  type Metrics,
  microBatches,
  padded,
  tokenLogProbs,
  tokenLogProbsBackward,
} from '../../lib/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type IsAny<T> = 0 extends 1 & T ? true : false;
/** Any of the values of T that is `any`, by name. */
type AnyIn<T> = { [K in keyof T]-?: IsAny<T[K]> extends true ? K : never }[keyof T];

declare function expectType<Expected>(): <Actual>(value: Actual, same: Equal<Expected, Actual>) => void;
declare function expectTrue<_T extends true>(): void;

declare const f32: Float32Array;
declare const f64: Float64Array;
declare const tensor: HostTensor;
interface OwnTensor extends HostTensor {
  name: string;
}
declare const ownTensor: OwnTensor;
declare const targets: Int32Array;
declare const packed: { cuSeqlens: Int32Array; cuGroups: Int32Array; rewards: Float32Array };

const fromArray = { logits: f32, targets, ...packed };
const fromTensor = { logits: tensor, targets, ...packed };
const fromLogProbs = { logProbs: f64, ...packed };

// The gradient has the form of the logits.
const array = await conspo(fromArray);
expectType<Float32Array>()(array.gradLogits, true);
expectType<HostTensor>()((await conspo(fromTensor, { tau: 0.2 })).gradLogits, true);
expectType<OwnTensor>()((await grpo({ ...fromTensor, logits: ownTensor }, { gradient: 'in-place' })).gradLogits, true);
expectType<Float32Array>()(grpoSync(fromArray, { gradient: { out: f32 } }).gradLogits, true);
// @ts-expect-error the gradient of logits is not one of log-probs
array.gradLogProbs;
// @ts-expect-error a tensor cannot take the gradient of an array
conspo(fromArray, { gradient: { out: tensor } });

// Log-probs get gradLogProbs.
const perToken = conspoSync(fromLogProbs);
expectType<Float32Array | Float64Array>()(perToken.gradLogProbs, true);
// @ts-expect-error there are no logits
perToken.gradLogits;
// @ts-expect-error the gradient of [T] log-probs does not fit a tensor
conspo(fromLogProbs, { gradient: { out: tensor } });

// No gradient where none was asked for.
const none = await conspo(fromArray, { gradient: 'none' });
expectType<number>()(none.loss, true);
// @ts-expect-error gradient: 'none'
none.gradLogits;
// @ts-expect-error gradient: 'none'
(await grpo(fromLogProbs, { gradient: 'none', klCoef: 0.1 })).gradLogProbs;

// An option known only at run time: the gradient may be missing.
const maybe = await conspo(fromArray, { gradient: Math.random() < 0.5 ? 'new' : 'none' });
expectType<Float32Array | undefined>()(maybe.gradLogits, true);

// Misspelt options do not compile.
// @ts-expect-error marginn
conspo(fromArray, { tau: 0.1, marginn: 0.2 });

// Advantages, or a teacher's log-probs, in place of rewards; the metrics of those are then absent.
const onTeacher = await grpo({ logProbs: f64, cuSeqlens: targets, teacherLogProbs: f32 }, { distillation: {} });
expectType<Float64Array | undefined>()(onTeacher.tokenLosses, true);
// @ts-expect-error there are no rewards
onTeacher.metrics.rewardMean;
// @ts-expect-error neither
grpo({ logProbs: f64, cuSeqlens: targets }, { distillation: {} });
// @ts-expect-error a mask has a threshold
grpo(fromArray, { offPolicyMask: {} });
// @ts-expect-error a rejection has a level
grpo(fromArray, { rolloutCorrection: { reject: { by: 'k1', max: 1 } } });
// @ts-expect-error no such scale
grpo(fromArray, { advantage: { scale: 'sequence' } });

// Dr. GRPO divides by a length, unless its aggregation has none.
expectType<Float32Array>()((await drGrpo(fromArray, { maxLength: 8 })).gradLogits, true);
expectType<Float64Array>()(drGrpoSync(fromArray, { aggregation: 'token-mean' }).advantages, true);
// @ts-expect-error which length?
drGrpo(fromArray);
// @ts-expect-error the same
drGrpoSync(fromArray, { epsilonHigh: 0.28 });
// @ts-expect-error the same
drGrpo(fromArray, { aggregation: 'constant-length' });
// @ts-expect-error options in a variable too
const _options: DrGrpoOptions = { klCoef: 0.1 };

// A loss by its name: one signature for all.
declare const anyName: LossName;
expectType<Float32Array>()((await losses[anyName](fromArray, { tau: 0.2, maxLength: 8 })).gradLogits, true);
expectType<Float32Array | Float64Array>()(lossesSync[anyName](fromLogProbs).gradLogProbs, true);
expectType<Float32Array>()(lossesSync.drGrpo(fromArray, { gradient: 'in-place' }).gradLogits, true);
const shared: AnyLossOptions = { klCoef: 0.1, tau: null, score: 'ratio', form: 'advantage', divergence: 'kl' };
losses[anyName]({ ...fromArray, refLogProbs: f64 }, { ...shared, signal: AbortSignal.timeout(1000) });
// @ts-expect-error no such loss
losses.ppo(fromArray);
// @ts-expect-error no loss has such an option
losses[anyName](fromArray, { epsilon: 0.2 });
// @ts-expect-error a number
losses[anyName](fromArray, { epsilonHigh: '0.2' });
// @ts-expect-error rewards are missing
losses[anyName]({ logProbs: f64, cuSeqlens: targets });

// Nothing is `any`.
type Conspo = typeof array;
type Grpo = Awaited<ReturnType<typeof grpo<typeof fromLogProbs, 'new'>>>;
expectTrue<Equal<AnyIn<Conspo>, never>>();
expectTrue<Equal<AnyIn<Grpo>, never>>();
expectTrue<Equal<AnyIn<Metrics>, never>>();
expectTrue<Equal<AnyIn<AnyLossOptions>, never>>();
expectTrue<Equal<AnyIn<GroupInfoNCE>, never>>();
expectTrue<Equal<AnyIn<Forward<typeof fromArray>>, never>>();
expectTrue<Equal<AnyIn<Awaited<ReturnType<typeof tokenLogProbs>>>, never>>();
expectType<Float64Array>()(array.scores, true);
expectType<Float64Array>()(array.groupLosses, true); // conspo always has them
expectType<Float64Array | undefined>()((await grpo(fromArray)).groupLosses, true);
expectType<Float64Array | undefined>()(array.entropy, true);
expectType<number>()(array.metrics.scoreGap, true);
expectType<number | undefined>()(array.metrics.kl, true);

// forward(): the way back knows the batch.
const handle = await forward(fromTensor, 'logLikelihood');
expectType<HostTensor>()((await handle.backward(handle.scores)).gradLogits, true);
const fromProbs = await forward(fromLogProbs, { kind: 'clippedRatio', epsilonHigh: 0.3 });
expectType<Float32Array | Float64Array>()((await fromProbs.backward(f64)).gradLogProbs, true);
// @ts-expect-error not a score
forward(fromTensor, 'likelihood');
// @ts-expect-error not a kind of score
forward(fromTensor, { kind: 'ratios' });

// The op's gradient too.
const upstream = { targets, logSumExp: f64, gradLogProbs: f64 };
expectType<Float32Array>()((await tokenLogProbsBackward({ logits: f32, ...upstream })).gradLogits, true);
expectType<HostTensor>()((await tokenLogProbsBackward({ logits: tensor, ...upstream })).gradLogits, true);
// @ts-expect-error the gradient is all there is to that op
tokenLogProbsBackward({ logits: f32, ...upstream }, { gradient: 'none' });

// Plain arrays for what there are few of; the results know that there are rewards and groups.
const plainLists = {
  logProbs: f64,
  cuSeqlens: [0, 1, 3],
  cuGroups: [0, 2],
  rewards: [1, 0],
} as const;
expectType<number>()((await conspo({ ...plainLists, groupOrder: [1, 0] })).metrics.scoreGap, true);
expectType<number>()(grpoSync({ ...plainLists, advantages: [1, -1] }).metrics.rewardMean, true);
const packedLists = padded({ shape: [1, 2], mask: new Uint8Array(2), logProbs: f64, rewards: [1], cuGroups: [0, 1] });
expectType<Float64Array>()(packedLists.rewards, true);
expectType<Int32Array>()(packedLists.cuGroups, true);
const [partOfLists] = microBatches(plainLists, { tokens: 4, loss: 'conspo' });
expectType<Int32Array>()(partOfLists.batch.cuSeqlens, true);
expectType<Float64Array>()(partOfLists.batch.rewards, true);
expectType<Float64Array>()(partOfLists.batch.logProbs, true);

// An element type by its long name: what comes back may have the short one.
const inFull = { ...fromTensor, logits: { data: f32, shape: [1, 2], dtype: 'float32' } as const };
expectType<DTypeName>()((await conspo(inFull)).gradLogits.dtype, true);
// @ts-expect-error no such type
conspo({ ...fromTensor, logits: { data: f32, shape: [1, 2], dtype: 'float64' } });

// Inputs that make no sense.
// @ts-expect-error logits need targets
conspo({ logits: f32, ...packed });
// @ts-expect-error logits or log-probs, not both
conspo({ ...fromArray, logProbs: f64 });
// @ts-expect-error rewards are missing
conspo({ logProbs: f64, cuSeqlens: packed.cuSeqlens, cuGroups: packed.cuGroups });
// @ts-expect-error long arrays, of tokens, are typed ones
conspo({ ...fromLogProbs, logProbs: [1, 2, 3] });
// @ts-expect-error a number
conspo(fromArray, { tau: '0.1' });
// @ts-expect-error an unknown backend
conspo(fromArray, { backend: 'gpu' });
// @ts-expect-error a number is no signal
tokenLogProbs({ logits: f32, targets }, { signal: 5 });
// @ts-expect-error an unknown estimator
grpo(fromArray, { advantage: { estimator: 'gae' } });

// The gradient of a layer has the form of its inputs, or of where it goes; there is none for 'none', nor without a bias.
const layer = { hidden: f32, weight: ownTensor, targets, logSumExp: f64, gradLogProbs: f64 };
const ofLayer = await linearLogProbsBackward(layer);
expectType<Float32Array>()(ofLayer.gradHidden, true);
expectType<OwnTensor>()(ofLayer.gradWeight, true);
expectType<undefined>()(ofLayer.gradBias, true);
const places = { gradHidden: 'none', gradWeight: { accumulate: f32 }, gradBias: { out: tensor } } as const;
const placed = linearLogProbsBackwardSync({ ...layer, bias: f32 }, { ...places, temperature: 2 });
expectType<undefined>()(placed.gradHidden, true);
expectType<Float32Array>()(placed.gradWeight, true);
expectType<HostTensor>()(placed.gradBias, true);
expectType<Float32Array>()(linearLogProbsBackwardSync({ ...layer, bias: f32 }, { gradHidden: 'none' }).gradBias, true);
// @ts-expect-error no gradient of a layer in place
linearLogProbsBackward(layer, { gradHidden: 'in-place' });
// @ts-expect-error nothing is added to float64
linearLogProbsBackward(layer, { gradWeight: { accumulate: f64 } });

// A loss of hidden states has the gradients of all three, where the options put them.
const fromHidden = { hidden: f32, weight: ownTensor, targets, ...packed };
const ofHidden = await conspo(fromHidden, { tau: 0.2 });
expectType<Float32Array>()(ofHidden.gradHidden, true);
expectType<OwnTensor>()(ofHidden.gradWeight, true);
expectType<undefined>()(ofHidden.gradBias, true);
const frozen = grpoSync({ ...fromHidden, bias: f32 }, { gradWeight: 'none', gradBias: { accumulate: f32 } });
expectType<Float32Array>()(frozen.gradHidden, true);
expectType<undefined>()(frozen.gradWeight, true);
expectType<Float32Array>()(frozen.gradBias, true);
expectType<undefined>()(conspoSync(fromHidden, { gradient: 'none' }).gradHidden, true);
// @ts-expect-error there are no logits
ofHidden.gradLogits;
// @ts-expect-error no gradient of a layer in place
conspo(fromHidden, { gradient: 'in-place' });
// @ts-expect-error hidden states need the weight of their layer
conspo({ hidden: f32, targets, ...packed });
const scoredHidden = await forward(fromHidden, 'logLikelihood');
expectType<OwnTensor>()((await scoredHidden.backward(f64)).gradWeight, true);
expectType<undefined>()((await scoredHidden.backward(f64, { gradWeight: 'none' })).gradWeight, true);
