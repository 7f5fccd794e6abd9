// group-info-nce: ConSPO's objective (arXiv 2605.12969, eq. 10) and its gradient. Spec section 4.
//   J_g = (1/N+) sum_{i in +} -tau * softplus((b - (s_i - margin)) / tau),
//   b   = tau * logsumexp_{j in -}(s_j / tau)
//   group_losses[g] = -J_g, loss = sum_g group_losses[g] / normalizer
// A group without both signs, or without any counted token, adds 0.
#pragma once

#include "ops/common.h"

namespace rlvr {

struct GroupInfoNce {
  const double* scores;        // [N]
  const double* rewards;       // [N]; positive: reward > positive_threshold
  const double* token_counts;  // [N] unmasked tokens; null: every sequence has some
  const int32_t* cu_groups;    // [G + 1]
  const int32_t*
      group_order;  // [N] a permutation: group g is sequences group_order[cu_groups[g] ...]; null: in order
  int64_t groups;   // G
  double tau;       // > 0
  double margin;
  double positive_threshold;
  double normalizer;     // > 0, usually G
  double* group_losses;  // [G] out
  double* grad_scores;   // [N] out: dloss/dscores
  double* loss;          // [1] out
  CancelFlag cancel;
};

}  // namespace rlvr
