// See phase_queue.h.
#include "cuda/phase_queue.h"

#include "cuda/advantage_objective_phases.h"
#include "cuda/group_info_nce_phases.h"
#include "cuda/platform.h"
#include "cuda/ratio_scores_phases.h"
#include "cuda/sequence_log_probs_phases.h"
#include "cuda/upstream_phase.h"

namespace rlvr::cuda {
namespace {

__device__ void run_phase(const Phase& phase) {
  switch (phase.kind) {
    case Phase::Kind::kSequenceForward:
      return run_phase(phase.op.sequence_forward);
    case Phase::Kind::kSequenceBackward:
      return run_phase(phase.op.sequence_backward);
    case Phase::Kind::kRatioForward:
      return run_phase(phase.op.ratio_forward);
    case Phase::Kind::kRatioBackward:
      return run_phase(phase.op.ratio_backward);
    case Phase::Kind::kGroups:
      return run_phase(phase.op.groups);
    case Phase::Kind::kGroupTotal:
      return run_phase(phase.op.group_total);
    case Phase::Kind::kAdvantages:
      return run_phase(phase.op.advantages);
    case Phase::Kind::kUpstreamCheck:
      return run_phase(phase.op.upstream_check);
  }
}

// The only block of its multiprocessor: it may have all registers.
__global__ __launch_bounds__(kPhaseThreads, 1) void phases_kernel(const __grid_constant__ Phases phases) {
  for (int i = 0; i < phases.count; ++i) {
    if (i > 0) __syncthreads();  // what the phases before it have written is there
    run_phase(phases.items[i]);
  }
}

}  // namespace

cudaError_t PhaseQueue::add(const Phase& phase) {
  const cudaError_t error = waiting_.count == kMaxPhases ? flush() : cudaSuccess;
  if (error == cudaSuccess) waiting_.items[waiting_.count++] = phase;
  return error;
}

cudaError_t PhaseQueue::flush() {
  if (waiting_.count == 0) return cudaSuccess;
  const cudaError_t error = launch(phases_kernel, 1, kPhaseThreads, stream(), waiting_);
  waiting_.count = 0;
  return error;
}

}  // namespace rlvr::cuda
