/**
 * The losses of reinforcement learning with verifiable rewards, from logits or log-probs to loss, gradient and metrics.
 * @module rlvr-kernels
 */

export { AdaptiveKl, type AdaptiveKlParameters } from './adaptive-kl.js';
export { type AdvantagesInputs, advantages } from './advantages.js';
export type { DeviceTensor } from './cuda/device.js';
export { RlvrError, type RlvrErrorCode } from './errors.js';
export type { AdvantageEstimator, AdvantagesOptions } from './estimators.js';
export { type DenseGroups, fromDense, type GroupIds } from './groups.js';
export type { HostTensor } from './host-tensor.js';
export type { BackendName, DType, DTypeName, RatioLevel, RatioScoreKind } from './kernels.js';
export type { LayerPlaces, LinearGradients } from './layer.js';
export type { Batch, SequenceBatch, TokenLevelOptions } from './levels/batch.js';
export {
  type BackwardOptions,
  type Forward,
  type ForwardOptions,
  type ForwardResult,
  type ForwardSync,
  forward,
  forwardSync,
} from './levels/forward.js';
export type { BatchGradient, GradientOf, LossGradient } from './levels/gradient.js';
export type { Score } from './levels/scores.js';
export type { DeferredGradient, GradientOption, Logits, LossGradientOption } from './logits.js';
export { type BnpoOptions, bnpo, bnpoSync } from './losses/bnpo.js';
export { type CispoOptions, type CispoParameters, cispo, cispoSync } from './losses/cispo.js';
export { type ConspoOptions, conspo, conspoSync } from './losses/conspo.js';
export {
  type CrossEntropyBatch,
  type CrossEntropyOptions,
  type CrossEntropyParameters,
  crossEntropy,
  crossEntropySync,
} from './losses/cross-entropy.js';
export { type DapoOptions, dapo, dapoSync } from './losses/dapo.js';
export { type DiscoLossParameters, type DiscoOptions, disco, discoSync } from './losses/disco.js';
export { type DppoOptions, type DppoParameters, dppo, dppoSync } from './losses/dppo.js';
export { type DrGrpoLength, type DrGrpoOptions, drGrpo, drGrpoSync } from './losses/dr-grpo.js';
export { type GmpoOptions, gmpo, gmpoSync } from './losses/gmpo.js';
export { type GrpoOptions, type GrpoParameters, grpo, grpoSync } from './losses/grpo.js';
export { type GspoOptions, gspo, gspoSync } from './losses/gspo.js';
export type { LossName } from './losses/list.js';
export {
  defineLoss,
  type GradientOptions,
  type Loss,
  type LossRecipe,
  type LossResult,
  type LossValue,
} from './losses/loss.js';
export { type LuspoOptions, luspo, luspoSync } from './losses/luspo.js';
export type { Metrics } from './losses/metrics.js';
export type {
  ClipParameters,
  ClippedRatioParameters,
  PolicyBatch,
  PolicyOptions,
  RatioLevelParameters,
} from './losses/policy.js';
export { type RealOptions, real, realSync } from './losses/real.js';
export { type AnyLoss, type AnyLossOptions, type AnyLossSync, losses, lossesSync } from './losses/registry.js';
export { type SapoOptions, type SapoParameters, sapo, sapoSync } from './losses/sapo.js';
export { type VespoOptions, type VespoParameters, vespo, vespoSync } from './losses/vespo.js';
export type { Matrix, MatrixGradientOption } from './matrices.js';
export type { Denominators } from './micro-batches/denominator.js';
export { type MeasuredPart, mergeMetrics } from './micro-batches/merge-metrics.js';
export {
  type CuttableBatch,
  type MicroBatch,
  type MicroBatchesOptions,
  microBatches,
} from './micro-batches/micro-batches.js';
export {
  type MergeOptions,
  mergeMetricsOnRanks,
  mergeMetricsOnRanksSync,
  microBatchesOnRanks,
  microBatchesOnRanksSync,
  type OptionsOnRanks,
} from './micro-batches/on-ranks.js';
export type { Numbers, WholeNumbers } from './number-lists.js';
export type { SourceInputs, SourceParameters } from './objectives/advantage-source.js';
export { type AdvantageInputs, type AdvantageParameters, advantageWeighted } from './objectives/advantage-weighted.js';
export type { CovarianceParameters } from './objectives/covariance.js';
export { type DiscoParameters, disco as discoObjective } from './objectives/disco.js';
export { type DiscriminativeParameters, discriminative } from './objectives/discriminative.js';
export type { EntropyParameters } from './objectives/entropy-bonus.js';
export { infoNCE } from './objectives/info-nce.js';
export type { KlInputs, KlParameters } from './objectives/kl-penalty.js';
export type { LossBatch, LossOptions, Objective } from './objectives/objective.js';
export type { MaskParameters, TokenWeightInputs } from './objectives/policy-factors.js';
export { type RealParameters, real as realObjective } from './objectives/real.js';
export type {
  RolloutCorrection,
  RolloutInputs,
  RolloutParameters,
  RolloutRejection,
} from './objectives/rollout-correction.js';
export { type ObjectiveValue, type ScoredBatch, scoreObjective } from './objectives/score-objective.js';
export {
  type AdvantageObjective,
  type AdvantageObjectiveInputs,
  type AdvantageObjectiveOptions,
  type Aggregation,
  type AggregationParameters,
  advantageObjective,
  advantageObjectiveSync,
} from './ops/advantage-objective.js';
export {
  type GroupInfoNCE,
  type GroupInfoNCEInputs,
  type GroupInfoNCEOptions,
  groupInfoNCE,
  groupInfoNCESync,
  type InfoNCEParameters,
} from './ops/group-info-nce.js';
export {
  type LinearLogProbsBackwardInputs,
  type LinearLogProbsBackwardOptions,
  type LinearLogProbsInputs,
  type LinearLogProbsOptions,
  linearLogProbs,
  linearLogProbsBackward,
  linearLogProbsBackwardSync,
  linearLogProbsSync,
} from './ops/linear-log-probs.js';
export {
  type RatioScores,
  type RatioScoresBackwardInputs,
  type RatioScoresInputs,
  type RatioScoresOptions,
  ratioScores,
  ratioScoresBackward,
  ratioScoresBackwardSync,
  ratioScoresSync,
} from './ops/ratio-scores.js';
export {
  type SampledTokens,
  type SampleTokensInputs,
  type SampleTokensOptions,
  sampleTokens,
  sampleTokensSync,
} from './ops/sample-tokens.js';
export {
  type LogProbGradientOptions,
  type SequenceLogProbs,
  type SequenceLogProbsBackwardInputs,
  type SequenceLogProbsInputs,
  sequenceLogProbs,
  sequenceLogProbsBackward,
  sequenceLogProbsBackwardSync,
  sequenceLogProbsSync,
} from './ops/sequence-log-probs.js';
export {
  type NonFiniteRule,
  type TokenLogProbs,
  type TokenLogProbsBackwardInputs,
  type TokenLogProbsBackwardOptions,
  type TokenLogProbsInputs,
  type TokenLogProbsOptions,
  tokenLogProbs,
  tokenLogProbsBackward,
  tokenLogProbsBackwardSync,
  tokenLogProbsSync,
} from './ops/token-log-probs.js';
export { type Packed, type PaddedBatch, type PaddedLogits, type PaddedTensor, padded } from './padded.js';
export { type PassAtK, type PassAtKInputs, type PassAtKOptions, passAtK } from './pass-at-k.js';
export type { Communicator } from './ranks/communicator.js';
export { type InProcessCommunicator, inProcess, type SharedRank } from './ranks/in-process.js';
export type { KlEstimator, RatioScore } from './ratio-score.js';
export {
  fromRollouts,
  type RolloutBatch,
  type Rollouts,
  type RolloutsOptions,
  type TokenIds,
} from './rollouts.js';
export type { Parallel, ParallelOptions, VocabRanks } from './run/ranks.js';
export { type BackendInfo, backends } from './run/select.js';
export type { AsyncOptions, BackendOptions } from './run/task.js';
export { RunningRewards, type RunningRewardsOptions, type RunningRewardsState } from './running-rewards.js';
export { type CosineMarginParameters, cosineMargin } from './schedules.js';
export { fromTrl, type TrlConfig } from './translations/from-trl.js';
export { fromVerl, type VerlBatch, type VerlConfig } from './translations/from-verl.js';
export type { LossTranslation } from './translations/translation.js';
export type { FloatArray } from './validate.js';
export { type WasmArrays, type WasmMemory, wasmMemory } from './wasm-memory.js';
