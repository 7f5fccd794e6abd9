// Reading of what a ratio score's rules depend on.
#pragma once

#include "ops/ratio_scores.h"
#include "wasm/values.h"

namespace rlvr::wasm {

inline void read_score_rules(Values& v, RatioScoresForward& op) {
  op.kind = v.code<RatioScore>();
  op.old_log_probs = v.array<const double>();
  op.sides = v.array<const double>();
  op.token_weights = v.array<const double>();
  op.sampler_log_probs = v.array<const double>();
  op.level = v.code<RatioLevel>();
  op.kl_weighted = v.boolean();
  op.kl_max = v.number();
  op.epsilon_low = v.number();
  op.epsilon_high = v.number();
  op.ratio_min = v.number();
  op.ratio_max = v.number();
  op.tau_pos = v.number();
  op.tau_neg = v.number();
  op.k_pos = v.number();
  op.k_neg = v.number();
  op.lambda_pos = v.number();
  op.lambda_neg = v.number();
}

}  // namespace rlvr::wasm
