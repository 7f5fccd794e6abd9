// The rules of the ratio scores, one token and one sequence at a time, shared by the CPU and CUDA backends. Spec
// sections 3 and 4; see ratio_scores.h for the formulas.
#pragma once

#include <cmath>

#include "ops/ratio_scores.h"

namespace rlvr::ratio {
namespace {  // a copy for every file: the CPU's are compiled for different instruction sets

constexpr double kLogRatioLimit = 20;

enum class Clip { kNone, kLow, kHigh };

// The exponentials that the rules use. The CPU's loops have some of their own.
struct LibraryMath {
  RLVR_HOST_DEVICE static double exp(double x) { return ::exp(x); }
  RLVR_HOST_DEVICE static double expm1(double x) { return ::expm1(x); }
};

// The log-ratio of a token, clamped.
struct LogRatio {
  double value;
  bool clamped;
};

RLVR_HOST_DEVICE inline LogRatio clamped(double d) {
  const double below = d > kLogRatioLimit ? kLogRatioLimit : d;
  const double within = below < -kLogRatioLimit ? -kLogRatioLimit : below;
  return {within, within != d};
}

RLVR_HOST_DEVICE inline LogRatio log_ratio(const RatioScoresForward& op, int64_t t) {
  return clamped(op.old_log_probs == nullptr ? 0 : op.log_probs[t] - op.old_log_probs[t]);
}

RLVR_HOST_DEVICE inline double token_weight(const RatioScoresForward& op, int64_t t) {
  return op.token_weights == nullptr ? 1 : op.token_weights[t];
}

RLVR_HOST_DEVICE inline double token_side(const RatioScoresForward& op, int64_t i, int64_t t) {
  if (op.sides != nullptr) return op.sides[i];
  return op.token_weights == nullptr ? 0 : op.token_weights[t];
}

// The one-sided clip of a value by its side: only the bound that the side looks at.
RLVR_HOST_DEVICE inline Clip one_sided(double value, double side, double low, double high) {
  if (side > 0 && value > high) return Clip::kHigh;
  if (side < 0 && value < low) return Clip::kLow;
  return Clip::kNone;
}

// A token's term of the sum, and its derivative by the token's log-prob.
struct Term {
  double value;
  double derivative;
  Clip clip = Clip::kNone;
};

RLVR_HOST_DEVICE inline Term clipped_term(const RatioScoresForward& op, double ratio, double side) {
  const double low = 1 - op.epsilon_low;
  const double high = 1 + op.epsilon_high;
  const Clip clip = one_sided(ratio, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {ratio, ratio, clip};
}

// As clipped_term, with the cap on the negative side too.
RLVR_HOST_DEVICE inline Term capped_term(const RatioScoresForward& op, double ratio, double side) {
  if (side < 0 && ratio > op.ratio_max) return {op.ratio_max, 0, Clip::kHigh};
  return clipped_term(op, ratio, side);
}

RLVR_HOST_DEVICE inline Term stopped_term(double ratio, double log_prob, double low, double high) {
  const double weight = ratio < low ? low : ratio > high ? high : ratio;
  const Clip clip = ratio > high ? Clip::kHigh : ratio < low ? Clip::kLow : Clip::kNone;
  return {weight * log_prob, weight, clip};
}

// With sigmoid(x) and sigmoid(-x) from one exponential, which cannot overflow.
template <class Math>
RLVR_HOST_DEVICE inline Term soft_gate_term(double ratio, double tau) {
  const double x = tau * (ratio - 1);
  const double down = x < 0 ? x : -x;
  const double e = Math::exp(down < -700 ? -700 : down);
  const double more = 1 / (1 + e);
  const double less = e * more;
  const double gate = x < 0 ? less : more;
  return {4 / tau * gate, 4 * more * less * ratio};
}

RLVR_HOST_DEVICE inline Term geometric_term(double d, double side, double low, double high) {
  const Clip clip = one_sided(d, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {d, 1, clip};
}

RLVR_HOST_DEVICE inline Term k3_term(double d, double inverse_ratio_minus_1) {
  return {inverse_ratio_minus_1 + d, -inverse_ratio_minus_1};
}

// Whether a token's term depends on its ratio.
RLVR_HOST_DEVICE constexpr bool uses_ratio(RatioScore kind) {
  return kind == RatioScore::kRatio || kind == RatioScore::kClipped || kind == RatioScore::kStopped ||
         kind == RatioScore::kSoftGate;
}

// `ratio` is exp(d) where uses_ratio.
template <class Math = LibraryMath>
RLVR_HOST_DEVICE inline Term token_term(const RatioScoresForward& op, double d, double ratio, double side,
                                        double log_prob) {
  switch (op.kind) {
    case RatioScore::kRatio:
      return {ratio, ratio};
    case RatioScore::kClipped:
      return capped_term(op, ratio, side);
    case RatioScore::kSequence:
      return {d, 1};
    case RatioScore::kGeometric:
      return geometric_term(d, side, -op.epsilon_low, op.epsilon_high);
    case RatioScore::kStopped:
      return stopped_term(ratio, log_prob, op.ratio_min, op.ratio_max);
    case RatioScore::kSoftGate:
      return soft_gate_term<Math>(ratio, side > 0 ? op.tau_pos : op.tau_neg);
    case RatioScore::kK1:
      return {d, 1};
    case RatioScore::kK2:
      return {d * d / 2, d};
    case RatioScore::kK3:
      return k3_term(d, Math::expm1(-d));
  }
  return {0, 0};
}

// The score from the mean of the terms, and the factor on every token's derivative.
RLVR_HOST_DEVICE inline Term sequence_score(const RatioScoresForward& op, double mean, double side) {
  if (op.kind == RatioScore::kGeometric) return {exp(mean), exp(mean)};
  if (op.kind == RatioScore::kSequence) return clipped_term(op, exp(mean), side);
  return {mean, 1};
}

// Whether the mean is at first of unweighted log-ratios, and the weights are applied with the sequence's ratio.
RLVR_HOST_DEVICE inline bool token_form(const RatioScoresForward& op) {
  return op.kind == RatioScore::kSequence && op.token_weights != nullptr;
}

// Whether a sequence's score is a mean of terms that each depend on one token.
RLVR_HOST_DEVICE constexpr bool is_token_mean(RatioScore kind) {
  return kind != RatioScore::kSequence && kind != RatioScore::kGeometric;
}

// Whether a gradient flows to a token's log-prob. The stopped ratio's weight is a constant: the clamp on d does not stop it.
RLVR_HOST_DEVICE inline bool flows(const RatioScoresForward& op, const LogRatio& d) {
  return !d.clamped || op.kind == RatioScore::kStopped;
}

// The derivative of token t's weighted term, of sequence i, by its log-prob, where is_token_mean.
RLVR_HOST_DEVICE inline double token_derivative(const RatioScoresForward& op, int64_t i, int64_t t, double log_prob) {
  const LogRatio d = clamped(op.old_log_probs == nullptr ? 0 : log_prob - op.old_log_probs[t]);
  const double ratio = uses_ratio(op.kind) ? ::exp(d.value) : 0;
  const Term term = token_term(op, d.value, ratio, token_side(op, i, t), log_prob);
  return flows(op, d) ? token_weight(op, t) * term.derivative : 0;
}

// What a thread adds up over its tokens of a sequence.
struct Sums {
  double count = 0;
  double value = 0;
  double low = 0;  // tokens that a bound replaced
  double high = 0;
  double ratio = 0;
  double ratio_square = 0;
  double log_ratio = 0;
  double largest_ratio = 0;
};

RLVR_HOST_DEVICE inline void add_clip(Sums& sums, Clip clip) {
  sums.low += clip == Clip::kLow ? 1 : 0;
  sums.high += clip == Clip::kHigh ? 1 : 0;
}

// Adds an unmasked token of sequence i, and writes its derivative before the sequence's factor.
RLVR_HOST_DEVICE inline void add_token(const RatioScoresForward& op, int64_t i, int64_t t, Sums& sums) {
  const LogRatio d = log_ratio(op, t);
  const double ratio = op.ratio_stats != nullptr || uses_ratio(op.kind) ? ::exp(d.value) : 0;
  const Term term = token_term(op, d.value, ratio, token_side(op, i, t), op.log_probs[t]);
  const double weight = token_form(op) ? 1 : token_weight(op, t);
  sums.count += 1;
  sums.value += weight * term.value;
  add_clip(sums, term.clip);
  op.score_grads[t] = flows(op, d) ? weight * term.derivative : 0;  // selected, not multiplied
  if (op.ratio_stats == nullptr) return;
  sums.ratio += ratio;
  sums.ratio_square += ratio * ratio;
  sums.log_ratio += d.value;
  sums.largest_ratio = ratio > sums.largest_ratio ? ratio : sums.largest_ratio;
}

// The second pass of the token form: a token's share of mean w_t * clip(S).
RLVR_HOST_DEVICE inline void add_token_form(const RatioScoresForward& op, int64_t i, int64_t t, double ratio,
                                            double divisor, Sums& sums) {
  const Term term = clipped_term(op, ratio, token_side(op, i, t));
  const double weight = token_weight(op, t);
  sums.value += weight * term.value;
  add_clip(sums, term.clip);
  op.score_grads[t] *= weight * term.derivative / divisor;
}

RLVR_HOST_DEVICE inline void write_stats(const RatioScoresForward& op, int64_t i, const Sums& sums) {
  if (op.ratio_stats == nullptr) return;
  double* stats = op.ratio_stats + 4 * i;
  stats[0] = sums.ratio;
  stats[1] = sums.ratio_square;
  stats[2] = sums.log_ratio;
  stats[3] = sums.largest_ratio;
}

}  // namespace
}  // namespace rlvr::ratio
