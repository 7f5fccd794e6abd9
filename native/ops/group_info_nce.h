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
      group_order;    // [N] a permutation: group g is sequences group_order[cu_groups[g] ...]; null: in order
  int64_t sequences;  // N
  int64_t groups;     // G
  double tau;         // > 0
  double margin;
  double positive_threshold;
  double normalizer;     // > 0, usually G
  double* group_losses;  // [G] out
  double* grad_scores;   // [N] out: dloss/dscores
  double* loss;          // [1] out
  CancelFlag cancel;
};

namespace {

// (a - b) / tau, also where a - b is beyond the range of a double.
RLVR_HOST_DEVICE inline double scaled_difference(double a, double b, double tau) {
  const double difference = a - b;
  return representable(difference) ? difference / tau : (a / 2 - b / 2) / tau * 2;
}

// b - (score - margin) with b = largest + spread, also where one of the two is.
RLVR_HOST_DEVICE inline double lead(double largest, double spread, double score, double margin) {
  const double gap = largest + spread - (score - margin);
  return representable(gap) ? gap : 2 * (largest / 2 - (score / 2 - margin / 2) + spread / 2);
}

}  // namespace
}  // namespace rlvr
