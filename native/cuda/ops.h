// The CUDA backend: one function per op, see native/ops/*.h for what each computes. Every pointer of the argument
// struct is device memory. Each only enqueues kernels on the stream and returns the launches' status; nothing is
// allocated, nothing waits. `cancel` is not read.
#pragma once

#include "cuda/runtime.h"
#include "ops/advantage_objective.h"
#include "ops/group_info_nce.h"
#include "ops/ratio_scores.h"
#include "ops/sequence_log_probs.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {

// What an op needs of device memory besides its arrays, and how much of it must be 0 at first; it is again afterwards.
struct ScratchBytes {
  int64_t bytes;
  int64_t zeros;
};

ScratchBytes token_log_probs_scratch(const TokenLogProbsForward& op);
cudaError_t token_log_probs_forward(const TokenLogProbsForward& op, cudaStream_t stream);
cudaError_t token_log_probs_backward(const TokenLogProbsBackward& op, cudaStream_t stream);
cudaError_t token_log_probs_one_pass(const TokenLogProbsOnePass& op, cudaStream_t stream);
cudaError_t zero_rows(const ZeroRows& op, cudaStream_t stream);
cudaError_t sequence_log_probs_forward(const SequenceLogProbsForward& op, cudaStream_t stream);
cudaError_t sequence_log_probs_backward(const SequenceLogProbsBackward& op, cudaStream_t stream);
cudaError_t ratio_scores_forward(const RatioScoresForward& op, cudaStream_t stream);
cudaError_t ratio_scores_backward(const RatioScoresBackward& op, cudaStream_t stream);
cudaError_t group_info_nce(const GroupInfoNce& op, cudaStream_t stream);
cudaError_t advantage_objective(const AdvantageObjective& op, cudaStream_t stream);

}  // namespace rlvr::cuda
