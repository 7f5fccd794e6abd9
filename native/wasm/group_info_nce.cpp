#include "cpu/ops.h"
#include "wasm/values.h"

namespace rlvr::wasm {

RLVR_WASM_EXPORT("groupInfoNCE") void group_info_nce(const double* values) {
  Values v(values);
  GroupInfoNce op{};
  op.scores = v.array<const double>();
  op.rewards = v.array<const double>();
  op.token_counts = v.array<const double>();
  op.cu_groups = v.array<const int32_t>();
  op.group_order = v.array<const int32_t>();
  op.groups = v.integer();
  op.sequences = op.cu_groups[op.groups];
  op.tau = v.number();
  op.margin = v.number();
  op.positive_threshold = v.number();
  op.normalizer = v.number();
  op.group_losses = v.array<double>();
  op.grad_scores = v.array<double>();
  op.loss = v.array<double>();
  cpu::group_info_nce(op);
}

}  // namespace rlvr::wasm
