// Reading of what a ratio score's rules depend on.
#pragma once

#include "binding/arguments.h"
#include "ops/ratio_scores.h"

namespace rlvr::binding {

// The kind, its parameters, old log-probs, sides and token weights, for op.sequences sequences of op.tokens tokens.
inline void read_score_rules(Arguments& a, RatioScoresForward& op) {
  op.kind = static_cast<RatioScore>(a.integer("kind", static_cast<int64_t>(RatioScore::kAbs)));
  op.old_log_probs = a.optional_array<const double>("oldLogProbs", op.tokens);
  op.sides = a.optional_array<const double>("sides", op.sequences);
  op.token_weights = a.optional_array<const double>("tokenWeights", op.tokens);
  op.sampler_log_probs = a.optional_array<const double>("samplerLogProbs", op.tokens);
  op.level = static_cast<RatioLevel>(a.integer("level", static_cast<int64_t>(RatioLevel::kSum)));
  op.kl_weighted = a.boolean("klWeighted");
  op.kl_max = a.number("klMax");
  op.epsilon_low = a.number("epsilonLow");
  op.epsilon_high = a.number("epsilonHigh");
  op.ratio_min = a.number("ratioMin");
  op.ratio_max = a.number("ratioMax");
  op.tau_pos = a.number("tauPos");
  op.tau_neg = a.number("tauNeg");
  op.k_pos = a.number("kPos");
  op.k_neg = a.number("kNeg");
  op.lambda_pos = a.number("lambdaPos");
  op.lambda_neg = a.number("lambdaNeg");
}

}  // namespace rlvr::binding
