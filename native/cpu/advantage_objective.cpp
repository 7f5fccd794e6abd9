// See ops/advantage_objective.h. N numbers: one thread, one fixed order.
#include "cpu/ops.h"

namespace rlvr::cpu {

void advantage_objective(const AdvantageObjective& op) {
  double normalizer = op.normalizer;
  if (normalizer == 0)
    for (int64_t i = 0; i < op.sequences; ++i) normalizer += op.token_counts[i];
  normalizer = checked_normalizer(normalizer);
  double loss = 0;
  for (int64_t i = 0; i < op.sequences; ++i) {
    op.grad_scores[i] = 0;
    const double advantage = op.advantages == nullptr ? 1 : op.advantages[i];
    if (op.token_counts[i] == 0 || advantage == 0) continue;
    op.grad_scores[i] = weighted(op, op.token_counts[i], advantage, normalizer);
    loss += op.grad_scores[i] * op.scores[i];
  }
  op.loss[0] = loss;
}

}  // namespace rlvr::cpu
