#include "cuda/host_arrays.h"

#include "cuda/ops.h"
#include "cuda/staging.h"

namespace rlvr::cuda::host {
namespace {

int64_t element_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// The number that packed offsets end with.
int64_t packed(const int32_t* offsets, int64_t count) { return offsets[count]; }

template <class Op>
std::string run(Staging& staging, const Op& device_op, cudaError_t (*op)(const Op&, cudaStream_t)) {
  if (!staging.error().empty()) return staging.error();
  staging.check(op(device_op, staging.stream()));
  return staging.finish();
}

}  // namespace

std::string token_log_probs_forward(const TokenLogProbsForward& host) {
  Staging staging;
  TokenLogProbsForward op = host;
  staging.in_rows(op.logits, op.tokens, op.vocab, op.row_stride, element_size(op.dtype));
  staging.in(op.targets, op.tokens);
  staging.in(op.mask, op.tokens);
  staging.out(op.log_probs, op.tokens);
  staging.out(op.log_sum_exp, op.tokens);
  staging.out(op.entropy, op.tokens);
  staging.out(op.status, op.tokens);
  return run(staging, op, cuda::token_log_probs_forward);
}

std::string token_log_probs_backward(const TokenLogProbsBackward& host) {
  Staging staging;
  TokenLogProbsBackward op = host;
  staging.in_rows(op.logits, op.tokens, op.vocab, op.row_stride, element_size(op.dtype));
  staging.in(op.targets, op.tokens);
  staging.in(op.mask, op.tokens);
  staging.in(op.log_sum_exp, op.tokens);
  staging.in(op.grad_log_probs, op.tokens);
  staging.in(op.entropy, op.tokens);
  staging.in(op.grad_entropy, op.tokens);
  staging.out_rows(op.grad_logits, op.tokens, op.vocab, op.grad_row_stride, element_size(op.dtype));
  return run(staging, op, cuda::token_log_probs_backward);
}

std::string sequence_log_probs_forward(const SequenceLogProbsForward& host) {
  Staging staging;
  SequenceLogProbsForward op = host;
  const int64_t tokens = packed(host.cu_seqlens, op.sequences);
  staging.in(op.log_probs, tokens);
  staging.in(op.mask, tokens);
  staging.in(op.cu_seqlens, op.sequences + 1);
  staging.out(op.scores, op.sequences);
  staging.out(op.token_counts, op.sequences);
  return run(staging, op, cuda::sequence_log_probs_forward);
}

std::string sequence_log_probs_backward(const SequenceLogProbsBackward& host) {
  Staging staging;
  SequenceLogProbsBackward op = host;
  const int64_t tokens = packed(host.cu_seqlens, op.sequences);
  staging.in(op.grad_scores, op.sequences);
  staging.in(op.token_counts, op.sequences);
  staging.in(op.mask, tokens);
  staging.in(op.cu_seqlens, op.sequences + 1);
  staging.out(op.grad_log_probs, tokens);
  return run(staging, op, cuda::sequence_log_probs_backward);
}

std::string ratio_scores_forward(const RatioScoresForward& host) {
  Staging staging;
  RatioScoresForward op = host;
  const int64_t tokens = packed(host.cu_seqlens, op.sequences);
  staging.in(op.log_probs, tokens);
  staging.in(op.old_log_probs, tokens);
  staging.in(op.mask, tokens);
  staging.in(op.cu_seqlens, op.sequences + 1);
  staging.in(op.sides, op.sequences);
  staging.out(op.scores, op.sequences);
  staging.out(op.token_counts, op.sequences);
  staging.out(op.score_grads, tokens);
  staging.out(op.clipped_low, op.sequences);
  staging.out(op.clipped_high, op.sequences);
  return run(staging, op, cuda::ratio_scores_forward);
}

std::string ratio_scores_backward(const RatioScoresBackward& host) {
  Staging staging;
  RatioScoresBackward op = host;
  const int64_t tokens = packed(host.cu_seqlens, op.sequences);
  staging.in(op.grad_scores, op.sequences);
  staging.in(op.score_grads, tokens);
  staging.in(op.cu_seqlens, op.sequences + 1);
  if (op.accumulate)
    staging.in_out(op.grad_log_probs, tokens);
  else
    staging.out(op.grad_log_probs, tokens);
  return run(staging, op, cuda::ratio_scores_backward);
}

std::string group_info_nce(const GroupInfoNce& host) {
  Staging staging;
  GroupInfoNce op = host;
  const int64_t sequences = packed(host.cu_groups, op.groups);
  staging.in(op.scores, sequences);
  staging.in(op.rewards, sequences);
  staging.in(op.token_counts, sequences);
  staging.in(op.cu_groups, op.groups + 1);
  staging.out(op.group_losses, op.groups);
  staging.out(op.grad_scores, sequences);
  staging.out(op.loss, 1);
  return run(staging, op, cuda::group_info_nce);
}

std::string advantage_objective(const AdvantageObjective& host) {
  Staging staging;
  AdvantageObjective op = host;
  staging.in(op.scores, op.sequences);
  staging.in(op.advantages, op.sequences);
  staging.in(op.token_counts, op.sequences);
  staging.out(op.grad_scores, op.sequences);
  staging.out(op.loss, 1);
  return run(staging, op, cuda::advantage_objective);
}

}  // namespace rlvr::cuda::host
