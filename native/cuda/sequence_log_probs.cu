// sequence-log-probs on the GPU; formulas in ops/sequence_log_probs.h. Masked log-probs are never read.
#include "cuda/sequences.h"

namespace rlvr::cuda {
namespace {

__global__ __launch_bounds__(kSequenceThreads) void forward_kernel(SequenceLogProbsForward op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    double sum = 0;
    double count = 0;
    for (int64_t t = op.cu_seqlens[i] + lane_index(); t < op.cu_seqlens[i + 1]; t += kWarp) {
      if (!unmasked(op.mask, t)) continue;
      sum += op.log_probs[t];
      count += 1;
    }
    sum = warp_sum(sum);
    count = warp_sum(count);
    if (lane_index() != 0) return;
    op.token_counts[i] = count;
    op.scores[i] = sum / (count > 1 ? count : 1);
  });
}

__global__ __launch_bounds__(kSequenceThreads) void backward_kernel(SequenceLogProbsBackward op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    const double count = op.token_counts[i];
    const double share = op.grad_scores[i] / (count > 1 ? count : 1);
    for (int64_t t = op.cu_seqlens[i] + lane_index(); t < op.cu_seqlens[i + 1]; t += kWarp)
      op.grad_log_probs[t] = unmasked(op.mask, t) ? share : 0;
  });
}

}  // namespace

cudaError_t sequence_log_probs_forward(const SequenceLogProbsForward& op, cudaStream_t stream) {
  if (op.sequences == 0) return cudaSuccess;
  return launch(forward_kernel, warp_blocks(op.sequences), kSequenceThreads, stream, op);
}

cudaError_t sequence_log_probs_backward(const SequenceLogProbsBackward& op, cudaStream_t stream) {
  if (op.sequences == 0) return cudaSuccess;
  return launch(backward_kernel, warp_blocks(op.sequences), kSequenceThreads, stream, op);
}

}  // namespace rlvr::cuda
