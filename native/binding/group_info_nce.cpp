#include "binding/sequences.h"
#include "binding/worker.h"
#include "cpu/ops.h"

namespace rlvr::binding {
namespace {

GroupInfoNce read(Arguments& a) {
  GroupInfoNce op{};
  op.groups = a.integer("groups");
  op.cu_groups = offsets(a, "cuGroups", op.groups, op.sequences);
  op.group_order = permutation(a, "groupOrder", op.sequences);
  op.scores = a.array<const double>("scores", op.sequences);
  op.rewards = a.array<const double>("rewards", op.sequences);
  op.token_counts = a.optional_array<const double>("tokenCounts", op.sequences);
  op.tau = a.number("tau");
  op.margin = a.number("margin");
  op.positive_threshold = a.number("positiveThreshold");
  op.normalizer = a.number("normalizer");
  op.group_losses = a.array<double>("groupLosses", op.groups);
  op.grad_scores = a.array<double>("gradScores", op.sequences);
  op.loss = a.array<double>("loss", 1);
  op.cancel = a.cancel_flag();
  return op;
}

}  // namespace

void export_group_info_nce(Napi::Env env, const Exports& exports) {
  export_op<GroupInfoNce, read, cpu::group_info_nce, RLVR_ON_CUDA(group_info_nce)>(env, exports, "groupInfoNCE");
}

}  // namespace rlvr::binding
