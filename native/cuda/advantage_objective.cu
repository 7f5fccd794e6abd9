// advantage-objective on the GPU: its phase is in advantage_objective_phases.h.
#include "cuda/ops.h"

namespace rlvr::cuda {

cudaError_t advantage_objective(const AdvantageObjective& op, PhaseQueue& queue) {
  return queue.add({Phase::Kind::kAdvantages, {.advantages = op}});
}

}  // namespace rlvr::cuda
