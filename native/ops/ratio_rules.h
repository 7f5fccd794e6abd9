// The rules of the ratio scores, one token and one sequence at a time, shared by the CPU and CUDA backends. Spec
// sections 3 and 4; see ratio_scores.h for the formulas.
#pragma once

#include <cmath>

#include "ops/ratio_scores.h"

namespace rlvr::ratio {

constexpr double kLogRatioLimit = 20;

enum class Clip { kNone, kLow, kHigh };

// The log-ratio of a token, clamped.
struct LogRatio {
  double value;
  bool clamped;
};

RLVR_HOST_DEVICE inline LogRatio log_ratio(const RatioScoresForward& op, int64_t t) {
  if (op.old_log_probs == nullptr) return {0, false};
  const double d = op.log_probs[t] - op.old_log_probs[t];
  if (d > kLogRatioLimit) return {kLogRatioLimit, true};
  if (d < -kLogRatioLimit) return {-kLogRatioLimit, true};
  return {d, false};
}

// The one-sided clip of a value by the sequence's side: only the bound that the side looks at.
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

RLVR_HOST_DEVICE inline Term clipped_term(double ratio, double side, double low, double high) {
  const Clip clip = one_sided(ratio, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {ratio, ratio, clip};
}

RLVR_HOST_DEVICE inline Term stopped_term(double ratio, double log_prob, double low, double high) {
  const double weight = ratio < low ? low : ratio > high ? high : ratio;
  const Clip clip = ratio > high ? Clip::kHigh : ratio < low ? Clip::kLow : Clip::kNone;
  return {weight * log_prob, weight, clip};
}

RLVR_HOST_DEVICE inline Term soft_gate_term(double ratio, double tau) {
  const double x = tau * (ratio - 1);
  const double gate = x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
  const double other = x >= 0 ? exp(-x) / (1 + exp(-x)) : 1 / (1 + exp(x));
  return {4 / tau * gate, 4 * gate * other * ratio};
}

RLVR_HOST_DEVICE inline Term geometric_term(double d, double side, double low, double high) {
  const Clip clip = one_sided(d, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {d, 1, clip};
}

RLVR_HOST_DEVICE inline Term token_term(const RatioScoresForward& op, double d, double side, int64_t t) {
  switch (op.kind) {
    case RatioScore::kRatio:
      return {exp(d), exp(d)};
    case RatioScore::kClipped:
      return clipped_term(exp(d), side, 1 - op.epsilon_low, 1 + op.epsilon_high);
    case RatioScore::kSequence:
      return {d, 1};
    case RatioScore::kGeometric:
      return geometric_term(d, side, -op.epsilon_low, op.epsilon_high);
    case RatioScore::kStopped:
      return stopped_term(exp(d), op.log_probs[t], op.ratio_min, op.ratio_max);
    case RatioScore::kSoftGate:
      return soft_gate_term(exp(d), side > 0 ? op.tau_pos : op.tau_neg);
    case RatioScore::kK1:
      return {d, 1};
    case RatioScore::kK2:
      return {d * d / 2, d};
    case RatioScore::kK3:
      return {expm1(-d) + d, -expm1(-d)};
  }
  return {0, 0};
}

// The score from the mean of the terms, and the factor on every token's derivative.
RLVR_HOST_DEVICE inline Term sequence_score(const RatioScoresForward& op, double mean, double side) {
  if (op.kind == RatioScore::kGeometric) return {exp(mean), exp(mean)};
  if (op.kind == RatioScore::kSequence) return clipped_term(exp(mean), side, 1 - op.epsilon_low, 1 + op.epsilon_high);
  return {mean, 1};
}

}  // namespace rlvr::ratio
