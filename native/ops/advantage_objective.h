// advantage-objective: the linear objective of the GRPO family, and its gradient. Spec section 4.
//   loss = scale * sum_i w_i * A_i * s_i,  grad_scores[i] = scale * w_i * A_i
//   w_i  = 1 / normalizer, or n_i / normalizer when per_token; sequences with n_i == 0 add nothing. The normalizer
//   stands for sum_i n_i when it is 0: that sum may be known on the device only.
// scale is -1 for the policy term, and the coefficient (with advantages null) for a penalty such as KL.
#pragma once

#include "ops/common.h"

namespace rlvr {

struct AdvantageObjective {
  const double* scores;        // [N]
  const double* advantages;    // [N] A_i; null: 1
  const double* token_counts;  // [N] n_i
  int64_t sequences;           // N
  bool per_token;
  double scale;
  double normalizer;    // >= 0
  double* grad_scores;  // [N] out
  double* loss;         // [1] out
  CancelFlag cancel;
};

namespace {

// The normalizer, once the tokens are counted. A sum beyond the range of a double must not make weights of 0.
RLVR_HOST_DEVICE inline double checked_normalizer(double normalizer) {
  return representable(normalizer) ? normalizer : normalizer - normalizer;  // NaN
}

// scale * w_i * A_i. Where w_i is beyond the range of a double, the product may be within it.
RLVR_HOST_DEVICE inline double weighted(const AdvantageObjective& op, double count, double advantage,
                                        double normalizer) {
  const double tokens = op.per_token ? count : 1;
  const double gradient = op.scale * (tokens / normalizer) * advantage;
  return representable(gradient) ? gradient : op.scale * advantage / normalizer * tokens;
}

}  // namespace
}  // namespace rlvr
