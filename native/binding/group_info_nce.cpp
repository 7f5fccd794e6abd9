#include "binding/sequences.h"
#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

GroupInfoNce read(Arguments& a) {
  GroupInfoNce op{};
  int64_t sequences = 0;
  op.groups = a.integer("groups");
  op.cu_groups = offsets(a, "cuGroups", op.groups, sequences);
  op.group_order = permutation(a, "groupOrder", sequences);
  op.scores = a.array<const double>("scores", sequences);
  op.rewards = a.array<const double>("rewards", sequences);
  op.token_counts = a.optional_array<const double>("tokenCounts", sequences);
  op.tau = a.number("tau");
  op.margin = a.number("margin");
  op.positive_threshold = a.number("positiveThreshold");
  op.normalizer = a.number("normalizer");
  op.group_losses = a.array<double>("groupLosses", op.groups);
  op.grad_scores = a.array<double>("gradScores", sequences);
  op.loss = a.array<double>("loss", 1);
  op.cancel = a.cancel_flag();
  return op;
}

}  // namespace

void export_group_info_nce(Napi::Env env, const Exports& exports) {
  export_op<GroupInfoNce, read, cpu::group_info_nce, RLVR_ON_CUDA(group_info_nce)>(env, exports, "groupInfoNCE");
}

}  // namespace rlvr::binding
