#include "cpu/ops.h"
#include "wasm/values.h"

namespace rlvr::wasm {

RLVR_WASM_EXPORT("advantageObjective") void advantage_objective(const double* values) {
  Values v(values);
  AdvantageObjective op{};
  op.scores = v.array<const double>();
  op.advantages = v.array<const double>();
  op.token_counts = v.array<const double>();
  op.sequences = v.integer();
  op.per_token = v.boolean();
  op.scale = v.number();
  op.normalizer = v.number();
  op.grad_scores = v.array<double>();
  op.loss = v.array<double>();
  cpu::advantage_objective(op);
}

}  // namespace rlvr::wasm
