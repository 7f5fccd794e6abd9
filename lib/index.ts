/**
 * The losses of reinforcement learning with verifiable rewards, from logits or log-probs to loss, gradient and metrics.
 * @packageDocumentation
 */
export { type AdvantageEstimator, type AdvantagesInputs, type AdvantagesOptions, advantages } from './advantages.js';
export type { DType, RatioScoreKind } from './backend/kernels.js';
export { type BackendInfo, type BackendName, backends } from './backend/select.js';
export type { AsyncOptions, BackendOptions } from './backend/task.js';
export { RlvrError, type RlvrErrorCode } from './errors.js';
export type { GradientOption, HostTensor, Logits } from './logits.js';
export type { Batch, SequenceBatch, TokenLevelOptions } from './losses/batch.js';
export { type ConspoOptions, conspo, conspoSync } from './losses/conspo.js';
export {
  type BackwardOptions,
  type Forward,
  type ForwardOptions,
  type ForwardResult,
  type ForwardSync,
  forward,
  forwardSync,
} from './losses/custom.js';
export type { BatchGradient, Score } from './losses/forward.js';
export { type GrpoBatch, type GrpoOptions, type GrpoParameters, grpo, grpoSync } from './losses/grpo.js';
export type { GradientOf, GradientOptions, LossOptions, LossResult, LossValue } from './losses/loss.js';
export type { Metrics } from './losses/metrics.js';
export type { AdvantageInputs, AdvantageParameters } from './objectives/advantage-weighted.js';
export type { KlInputs, KlParameters } from './objectives/kl-penalty.js';
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
  type RatioScore,
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
export { type CosineMarginParameters, cosineMargin } from './schedules.js';
export type { FloatArray } from './validate.js';
