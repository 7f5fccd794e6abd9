// The CUDA backend: one function per op, see native/ops/*.h for what each computes. Every pointer of the argument
// struct is device memory. Each only enqueues kernels on the queue, where small ones may wait for their followers, and
// returns the launches' status; nothing is allocated, nothing blocks. `cancel` is not read.
#pragma once

#include "cuda/phase_queue.h"
#include "ops/linear_log_probs.h"
#include "ops/sample_tokens.h"

namespace rlvr::cuda {

// What an op needs of device memory besides its arrays, and how much of it must be 0 at first; it is again afterwards.
struct ScratchBytes {
  int64_t bytes;
  int64_t zeros;
};

ScratchBytes token_log_probs_scratch(const TokenRowsForward& op);
// Of a backward pass over rows that keep so many ids in all; none where there is no replay.
int64_t replay_scratch(int64_t tokens, int64_t ids);
cudaError_t token_log_probs_forward(const TokenLogProbsForward& op, PhaseQueue& queue);
// Looks for rows whose upstream gradient is beyond float32.
cudaError_t check_upstream(const TokenRowsBackward& op, PhaseQueue& queue);
cudaError_t token_log_probs_backward(const TokenLogProbsBackward& op, PhaseQueue& queue);
cudaError_t token_log_probs_one_pass(const TokenLogProbsOnePass& op, PhaseQueue& queue);
cudaError_t zero_rows(const ZeroRows& op, PhaseQueue& queue);
cudaError_t sequence_log_probs_forward(const SequenceLogProbsForward& op, PhaseQueue& queue);
cudaError_t sequence_log_probs_backward(const SequenceLogProbsBackward& op, PhaseQueue& queue);
cudaError_t ratio_scores_forward(const RatioScoresForward& op, PhaseQueue& queue);
cudaError_t ratio_scores_backward(const RatioScoresBackward& op, PhaseQueue& queue);
cudaError_t group_info_nce(const GroupInfoNce& op, PhaseQueue& queue);
cudaError_t advantage_objective(const AdvantageObjective& op, PhaseQueue& queue);
cudaError_t sample_tokens(const SampleTokens& op, PhaseQueue& queue);
cudaError_t sample_tokens_kept(const SampleTokensKept& op, PhaseQueue& queue);
// These take memory for what they work with, and give it back, in the stream's order. cuBLASLt must have been found.
// The bytes of logits that a forward pass keeps for a backward pass.
int64_t kept_logits_bytes(const LinearLogits& logits);
cudaError_t linear_log_probs_forward(const LinearLogProbsForward& op, PhaseQueue& queue);
cudaError_t linear_log_probs_backward(const LinearLogProbsBackward& op, PhaseQueue& queue);

}  // namespace rlvr::cuda
