// See ops/ratio_scores.h. Each score is a rule for one token (a term and its derivative) or, for the two
// exponentials of a mean, a rule for the sequence; masked tokens are never read.
#include <algorithm>
#include <cmath>

#include "cpu/ops.h"
#include "cpu/sequences.h"

namespace rlvr::cpu {
namespace {

constexpr double kLogRatioLimit = 20;

enum class Clip { kNone, kLow, kHigh };

// The log-ratio of a token, clamped.
struct LogRatio {
  double value;
  bool clamped;
};

LogRatio log_ratio(const RatioScoresForward& op, int64_t t) {
  if (op.old_log_probs == nullptr) return {0, false};
  const double d = op.log_probs[t] - op.old_log_probs[t];
  if (d > kLogRatioLimit) return {kLogRatioLimit, true};
  if (d < -kLogRatioLimit) return {-kLogRatioLimit, true};
  return {d, false};
}

// The one-sided clip of a value by the sequence's side: only the bound that the side looks at.
Clip one_sided(double value, double side, double low, double high) {
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

Term clipped_term(double ratio, double side, double low, double high) {
  const Clip clip = one_sided(ratio, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {ratio, ratio, clip};
}

Term stopped_term(double ratio, double log_prob, double low, double high) {
  const double weight = std::min(std::max(ratio, low), high);
  const Clip clip = ratio > high ? Clip::kHigh : ratio < low ? Clip::kLow : Clip::kNone;
  return {weight * log_prob, weight, clip};
}

Term soft_gate_term(double ratio, double tau) {
  const double x = tau * (ratio - 1);
  const double gate = x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
  const double other = x >= 0 ? std::exp(-x) / (1 + std::exp(-x)) : 1 / (1 + std::exp(x));
  return {4 / tau * gate, 4 * gate * other * ratio};
}

Term geometric_term(double d, double side, double low, double high) {
  const Clip clip = one_sided(d, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {d, 1, clip};
}

Term token_term(const RatioScoresForward& op, double d, double side, int64_t t) {
  switch (op.kind) {
    case RatioScore::kRatio:
      return {std::exp(d), std::exp(d)};
    case RatioScore::kClipped:
      return clipped_term(std::exp(d), side, 1 - op.epsilon_low, 1 + op.epsilon_high);
    case RatioScore::kSequence:
      return {d, 1};
    case RatioScore::kGeometric:
      return geometric_term(d, side, -op.epsilon_low, op.epsilon_high);
    case RatioScore::kStopped:
      return stopped_term(std::exp(d), op.log_probs[t], op.ratio_min, op.ratio_max);
    case RatioScore::kSoftGate:
      return soft_gate_term(std::exp(d), side > 0 ? op.tau_pos : op.tau_neg);
    case RatioScore::kK1:
      return {d, 1};
    case RatioScore::kK2:
      return {d * d / 2, d};
    case RatioScore::kK3:
      return {std::expm1(-d) + d, -std::expm1(-d)};
  }
  return {0, 0};
}

// The score from the mean of the terms, and the factor on every token's derivative.
Term sequence_score(const RatioScoresForward& op, double mean, double side) {
  if (op.kind == RatioScore::kGeometric) return {std::exp(mean), std::exp(mean)};
  if (op.kind == RatioScore::kSequence)
    return clipped_term(std::exp(mean), side, 1 - op.epsilon_low, 1 + op.epsilon_high);
  return {mean, 1};
}

void score_sequence(const RatioScoresForward& op, int64_t i, int64_t begin, int64_t end) {
  const double side = op.sides == nullptr ? 0 : op.sides[i];
  const double count = count_unmasked(op.mask, begin, end);
  const double divisor = std::max(count, 1.0);
  int32_t clipped[3] = {0, 0, 0};
  double sum = 0;
  for (int64_t t = begin; t < end; ++t) {
    op.score_grads[t] = 0;
    if (!unmasked(op.mask, t)) continue;
    const LogRatio d = log_ratio(op, t);
    const Term term = token_term(op, d.value, side, t);
    sum += term.value;
    // Selected, not multiplied. The stopped ratio's weight is a constant: the clamp on d does not stop its gradient.
    const bool flows = !d.clamped || op.kind == RatioScore::kStopped;
    op.score_grads[t] = flows ? term.derivative : 0;
    ++clipped[static_cast<int>(term.clip)];
  }
  const Term score = sequence_score(op, sum / divisor, side);
  const double factor = score.derivative / divisor;
  for (int64_t t = begin; t < end; ++t) op.score_grads[t] *= factor;
  if (score.clip != Clip::kNone) clipped[static_cast<int>(score.clip)] = static_cast<int32_t>(count);
  op.scores[i] = score.value;
  op.token_counts[i] = count;
  op.clipped_low[i] = clipped[static_cast<int>(Clip::kLow)];
  op.clipped_high[i] = clipped[static_cast<int>(Clip::kHigh)];
}

}  // namespace

void ratio_scores_forward(const RatioScoresForward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel,
                    [&](int64_t i, int64_t begin, int64_t end) { score_sequence(op, i, begin, end); });
}

void ratio_scores_backward(const RatioScoresBackward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double gradient = op.grad_scores[i] * op.score_grads[t];
      op.grad_log_probs[t] = op.accumulate ? op.grad_log_probs[t] + gradient : gradient;
    }
  });
}

}  // namespace rlvr::cpu
