// ratio-scores: sequence scores built on the log-ratio d_t = log_probs[t] - old_log_probs[t], the GRPO
// family's scores and the estimators of KL to a reference policy. Spec sections 3 and 4.
//
// d_t is clamped to +-20 before exp; outside, the derivative is 0. r_t = exp(d_t). Over sequence i:
//
// - kRatio: mean r_t
// - kClipped: positive side: mean min(r_t, 1 + epsilon_high); negative: mean min(max(r_t, 1 - epsilon_low), ratio_max)
// - kSequence: S = exp(mean d_t), then the one-sided clip of kClipped (GSPO)
// - kGeometric: exp(mean min(d_t, epsilon_high)) or exp(mean max(d_t, -epsilon_low)) (GMPO)
// - kStopped: mean sg(clamp(r_t, ratio_min, ratio_max)) * log_probs[t] (CISPO)
// - kSoftGate: mean (4/tau) * sigmoid(tau * (r_t - 1)), tau by side (SAPO)
// - kK1, kK2, kK3: mean of the KL estimators d, d^2/2, exp(-d) + d - 1, with the reference in place of old_log_probs
//
// "Side" is the sign of sides[i]; a sequence with side 0 is not clipped. Token weights (per-token advantages,
// importance weights; constants) multiply a token's term of the mean; without sides a token's side is the sign of its
// weight. kSequence with token weights is GSPO's token form: mean w_t * clip(S), whose derivative by log_probs[t] is
// w_t * S / n. kGeometric takes none.
#pragma once

#include "ops/common.h"

namespace rlvr {

enum class RatioScore : int32_t {
  kRatio = 0,
  kClipped = 1,
  kSequence = 2,
  kGeometric = 3,
  kStopped = 4,
  kSoftGate = 5,
  kK1 = 6,
  kK2 = 7,
  kK3 = 8,
};

struct RatioScoresForward {
  RatioScore kind;
  const double* log_probs;      // [T]
  const double* old_log_probs;  // [T]; null: on-policy, d = 0
  const uint8_t* mask;          // [T] or null
  const int32_t* cu_seqlens;    // [N + 1]
  int64_t tokens;               // T
  int64_t sequences;            // N
  const double* sides;          // [N], only the sign is read; null: the side is that of token_weights, or 0
  const double* token_weights;  // [T] or null: 1
  double epsilon_low;
  double epsilon_high;
  double ratio_min;
  double ratio_max;
  double tau_pos;
  double tau_neg;
  double* scores;         // [N] out
  double* token_counts;   // [N] out: n_i
  double* score_grads;    // [T] out: dscores[i]/dlog_probs[t], 0 where masked
  int32_t* clipped_low;   // [N] out: tokens whose ratio the lower bound replaced
  int32_t* clipped_high;  // [N] out: tokens whose ratio the upper bound replaced
  double* ratio_stats;    // [N, 4] out or null: sum of r_t, of r_t^2, of d_t over the tokens that count; largest r_t
  CancelFlag cancel;
};

struct RatioScoresBackward {
  const double* grad_scores;  // [N]
  const double* score_grads;  // [T] from the forward pass
  const int32_t* cu_seqlens;  // [N + 1]
  int64_t tokens;             // T
  int64_t sequences;          // N
  bool accumulate;            // add to grad_log_probs instead of overwriting it
  double* grad_log_probs;     // [T] out
  CancelFlag cancel;
};

}  // namespace rlvr
