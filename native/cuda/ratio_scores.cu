// ratio-scores on the GPU: its phases are in ratio_scores_phases.h.
#include "cuda/launch_phase.h"
#include "cuda/ops.h"
#include "cuda/ratio_scores_phases.h"

namespace rlvr::cuda {
namespace {

__global__ __launch_bounds__(kSequenceThreads) void forward_kernel(RatioScoresForward op) { run_phase(op); }

__global__ __launch_bounds__(kSequenceThreads) void backward_kernel(RatioScoresBackward op) { run_phase(op); }

}  // namespace

cudaError_t ratio_scores_forward(const RatioScoresForward& op, PhaseQueue& queue) {
  if (op.sequences == 0) return cudaSuccess;
  const bool small = op.tokens <= kSmallRatioTokens && op.sequences <= kSmallSequences;
  if (!small) return launch_phase(forward_kernel, op, op.sequences, queue);
  return queue.add({Phase::Kind::kRatioForward, {.ratio_forward = op}});
}

cudaError_t ratio_scores_backward(const RatioScoresBackward& op, PhaseQueue& queue) {
  if (op.sequences == 0) return cudaSuccess;
  const bool small = op.tokens <= kSmallTokens && op.sequences <= kSmallSequences;
  if (!small) return launch_phase(backward_kernel, op, op.sequences, queue);
  return queue.add({Phase::Kind::kRatioBackward, {.ratio_backward = op}});
}

}  // namespace rlvr::cuda
