// sequence-log-probs on the GPU: its phases are in sequence_log_probs_phases.h.
#include "cuda/launch_phase.h"
#include "cuda/ops.h"
#include "cuda/sequence_log_probs_phases.h"

namespace rlvr::cuda {
namespace {

__global__ __launch_bounds__(kSequenceThreads) void forward_kernel(SequenceLogProbsForward op) { run_phase(op); }

__global__ __launch_bounds__(kSequenceThreads) void backward_kernel(SequenceLogProbsBackward op) { run_phase(op); }

bool small(int64_t tokens, int64_t sequences) { return tokens <= kSmallTokens && sequences <= kSmallSequences; }

}  // namespace

cudaError_t sequence_log_probs_forward(const SequenceLogProbsForward& op, PhaseQueue& queue) {
  if (op.sequences == 0) return cudaSuccess;
  if (!small(op.tokens, op.sequences)) return launch_phase(forward_kernel, op, op.sequences, queue);
  return queue.add({Phase::Kind::kSequenceForward, {.sequence_forward = op}});
}

cudaError_t sequence_log_probs_backward(const SequenceLogProbsBackward& op, PhaseQueue& queue) {
  if (op.sequences == 0) return cudaSuccess;
  if (!small(op.tokens, op.sequences)) return launch_phase(backward_kernel, op, op.sequences, queue);
  return queue.add({Phase::Kind::kSequenceBackward, {.sequence_backward = op}});
}

}  // namespace rlvr::cuda
