// ratio-scores: sequence scores built on the log-ratio d_t = log_probs[t] - old_log_probs[t], the GRPO
// family's scores and the estimators of KL to a reference policy. Spec sections 3 and 4.
//
// d_t is clamped to +-20 before exp; outside, the derivative is 0. r_t = exp(d_t). Over sequence i:
//
// - kRatio: mean r_t
// - kClipped: positive side: mean min(r_t, 1 + epsilon_high); negative: mean min(max(r_t, 1 - epsilon_low), ratio_max)
// - kGeometric: exp(mean min(d_t, epsilon_high)) or exp(mean max(d_t, -epsilon_low)) (GMPO)
// - kStopped: mean sg(clamp(r_t, ratio_min, ratio_max)) * log_probs[t] (CISPO)
// - kSoftGate: mean (4/tau) * sigmoid(tau * (r_t - 1)), tau by side (SAPO)
// - kTrustTv, kTrustKl: mean sg(v_t * min(r_t, ratio_max)) * log_probs[t] (DPPO); v_t = 0 where the positive side has
//   D_t > epsilon_high, or any other D_t < -epsilon_low, else 1. D_t = p - p_old, or the KL of (p_old, 1 - p_old) from
//   (p, 1 - p), negative where p < p_old; p = exp(log_probs[t]); for the KL log-probs above 0 are 0
// - kLogRatio: mean d_t (REAL)
// - kGamma: sg(w^k * exp(lambda * (1 - w))) * mean log_probs[t] (VESPO), k and lambda by side (0 is positive), log w = sum d_t
//   clamped to [log 1e-8, 20]; with sampler_log_probs, the log-ratios of old_log_probs to those join the sum, clamped alike
// - kK1, kK2, kK3, kAbs: mean of the KL estimators d, d^2/2, exp(-d) + d - 1, |d|, with the reference in place of
//   old_log_probs; at most kl_max each, whose derivative is 0
// - kK1Plus, kK3Plus: the value of kK1, kK3 with the derivative of kK2
//
// With kl_weighted, the mean of an estimator is of k_t * w_t, or is multiplied by w: the ratio to the policy of
// sampler_log_probs, of a token or of the sequence as `level` says. Its gradient flows through both.
//
// With another level than kToken, the scores kRatio, kClipped, kStopped and kSoftGate are of the sequence's ratio in place of
// r_t: S = exp(mean d_t), or exp(sum d_t), whose exponent is clamped to +-20 (GSPO: kClipped of S).
//
// "Side" is the sign of sides[i]; a sequence with side 0 is not clipped. Token weights (per-token advantages,
// importance weights; constants) multiply a token's term of the mean; without sides a token's side is the sign of its
// weight. Where a score is of the sequence's ratio, token weights make it GSPO's token form: mean w_t * f(S), whose
// derivative by log_probs[t] is w_t * S f'(S) / n, where f is what the score does with a ratio. kGeometric takes none.
#pragma once

#include "ops/common.h"

namespace rlvr {

enum class RatioScore : int32_t {
  kRatio = 0,
  kClipped = 1,
  kGeometric = 2,
  kStopped = 3,
  kSoftGate = 4,
  kTrustTv = 5,
  kTrustKl = 6,
  kLogRatio = 7,
  kGamma = 8,
  kK1 = 9,
  kK2 = 10,
  kK3 = 11,
  kK1Plus = 12,
  kK3Plus = 13,
  kAbs = 14,
};

// What a ratio is of: a token, exp of the mean log-ratio of its sequence, or exp of their sum, which is clamped to +-20.
enum class RatioLevel : int32_t { kToken = 0, kSequence = 1, kSum = 2 };

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
  const double* sampler_log_probs;  // [T], of kl_weighted and kGamma; null: that log-ratio is 0
  RatioLevel level;
  bool kl_weighted;
  double kl_max;
  double epsilon_low;
  double epsilon_high;
  double ratio_min;
  double ratio_max;
  double tau_pos;
  double tau_neg;
  double k_pos;
  double k_neg;
  double lambda_pos;
  double lambda_neg;
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
