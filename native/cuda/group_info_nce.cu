// group-info-nce on the GPU: its phases are in group_info_nce_phases.h.
#include "cuda/group_info_nce_phases.h"
#include "cuda/launch_phase.h"
#include "cuda/ops.h"

namespace rlvr::cuda {
namespace {

__global__ __launch_bounds__(kSequenceThreads) void groups_kernel(GroupInfoNce op) { run_phase(op); }

}  // namespace

cudaError_t group_info_nce(const GroupInfoNce& op, PhaseQueue& queue) {
  const bool small = op.groups <= kSmallGroups && op.sequences <= kSmallTokens;
  const cudaError_t error = small ? queue.add({Phase::Kind::kGroups, {.groups = op}})
                                  : launch_phase(groups_kernel, op, op.groups, queue);
  if (error != cudaSuccess) return error;
  return queue.add({Phase::Kind::kGroupTotal, {.group_total = {op}}});
}

}  // namespace rlvr::cuda
