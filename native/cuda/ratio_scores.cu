// ratio-scores on the GPU; formulas in ops/ratio_scores.h, the rules themselves shared with the CPU in
// ops/ratio_rules.h. Masked tokens are never read.
#include "cuda/sequences.h"
#include "ops/ratio_rules.h"

namespace rlvr::cuda {
namespace {

using namespace ratio;

__global__ __launch_bounds__(kSequenceThreads) void forward_kernel(RatioScoresForward op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    const int64_t begin = op.cu_seqlens[i];
    const int64_t end = op.cu_seqlens[i + 1];
    const double side = op.sides == nullptr ? 0 : op.sides[i];
    double sum = 0;
    double count = 0;
    double low = 0;
    double high = 0;
    for (int64_t t = begin + lane_index(); t < end; t += kWarp) {
      op.score_grads[t] = 0;
      if (!unmasked(op.mask, t)) continue;
      const LogRatio d = log_ratio(op, t);
      const Term term = token_term(op, d.value, side, t);
      sum += term.value;
      count += 1;
      low += term.clip == Clip::kLow ? 1 : 0;
      high += term.clip == Clip::kHigh ? 1 : 0;
      // Selected, not multiplied. The stopped ratio's weight is a constant: the clamp on d does not stop its gradient.
      op.score_grads[t] = !d.clamped || op.kind == RatioScore::kStopped ? term.derivative : 0;
    }
    sum = warp_sum(sum);
    count = warp_sum(count);
    low = warp_sum(low);
    high = warp_sum(high);
    const double divisor = count > 1 ? count : 1;
    const Term score = sequence_score(op, sum / divisor, side);
    const double factor = score.derivative / divisor;
    for (int64_t t = begin + lane_index(); t < end; t += kWarp) op.score_grads[t] *= factor;  // each lane its own
    if (lane_index() != 0) return;
    op.scores[i] = score.value;
    op.token_counts[i] = count;
    op.clipped_low[i] = static_cast<int32_t>(score.clip == Clip::kLow ? count : low);
    op.clipped_high[i] = static_cast<int32_t>(score.clip == Clip::kHigh ? count : high);
  });
}

__global__ __launch_bounds__(kSequenceThreads) void backward_kernel(RatioScoresBackward op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    for (int64_t t = op.cu_seqlens[i] + lane_index(); t < op.cu_seqlens[i + 1]; t += kWarp) {
      const double gradient = op.grad_scores[i] * op.score_grads[t];
      op.grad_log_probs[t] = (op.accumulate ? op.grad_log_probs[t] : 0) + gradient;
    }
  });
}

}  // namespace

cudaError_t ratio_scores_forward(const RatioScoresForward& op, cudaStream_t stream) {
  if (op.sequences == 0) return cudaSuccess;
  return launch(forward_kernel, warp_blocks(op.sequences), kSequenceThreads, stream, op);
}

cudaError_t ratio_scores_backward(const RatioScoresBackward& op, cudaStream_t stream) {
  if (op.sequences == 0) return cudaSuccess;
  return launch(backward_kernel, warp_blocks(op.sequences), kSequenceThreads, stream, op);
}

}  // namespace rlvr::cuda
