#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

AdvantageObjective read(Arguments& a) {
  AdvantageObjective op{};
  op.sequences = a.integer("sequences");
  op.scores = a.array<const double>("scores", op.sequences);
  op.advantages = a.optional_array<const double>("advantages", op.sequences);
  op.token_counts = a.array<const double>("tokenCounts", op.sequences);
  op.per_token = a.boolean("perToken");
  op.scale = a.number("scale");
  op.normalizer = a.number("normalizer");
  op.grad_scores = a.array<double>("gradScores", op.sequences);
  op.loss = a.array<double>("loss", 1);
  op.cancel = a.cancel_flag();
  return op;
}

}  // namespace

void export_advantage_objective(Napi::Env env, const Exports& exports) {
  export_op<AdvantageObjective, read, cpu::advantage_objective, RLVR_ON_CUDA(advantage_objective)>(
      env, exports, "advantageObjective");
}

}  // namespace rlvr::binding
