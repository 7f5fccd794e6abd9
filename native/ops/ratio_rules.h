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

// What a token's term depends on; or a sequence's, then with its ratio and its mean log-prob.
struct Token {
  double d;      // the log-ratio, clamped
  double ratio;  // exp(d) where uses_ratio
  double side;
  double log_prob;
  double old_log_prob;
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

RLVR_HOST_DEVICE inline double old_log_prob(const RatioScoresForward& op, int64_t t, double log_prob) {
  return op.old_log_probs == nullptr ? log_prob : op.old_log_probs[t];
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

// Within `most` and what has an exponential that is no denormal.
RLVR_HOST_DEVICE inline double at_most(double log_prob, double most) {
  const double below = log_prob > most ? most : log_prob;
  return below < -700 ? -700 : below;
}

// The KL of (e^q, 1 - e^q) from (e^p, 1 - e^p), q and p at most 0.
RLVR_HOST_DEVICE inline double binary_kl(double q, double p) {
  const double rest = -::expm1(q);
  const double other = rest == 0 ? 0 : rest * (::log(rest) - ::log(-::expm1(p)));
  return ::exp(q) * (q - p) + other;
}

// How far a probability has moved, up or down.
template <class Math>
RLVR_HOST_DEVICE inline double divergence(RatioScore kind, const Token& token) {
  if (kind == RatioScore::kTrustTv)
    return Math::exp(at_most(token.log_prob, 700)) - Math::exp(at_most(token.old_log_prob, 700));
  const double p = at_most(token.log_prob, 0);
  const double q = at_most(token.old_log_prob, 0);
  return p < q ? -binary_kl(q, p) : binary_kl(q, p);
}

template <class Math>
RLVR_HOST_DEVICE inline Term trust_term(const RatioScoresForward& op, const Token& token) {
  const double moved = divergence<Math>(op.kind, token);
  const double weight = token.ratio > op.ratio_max ? op.ratio_max : token.ratio;
  const Clip clip = token.side > 0 ? (moved > op.epsilon_high ? Clip::kHigh : Clip::kNone)
                                   : (moved < -op.epsilon_low ? Clip::kLow : Clip::kNone);
  const double held = clip == Clip::kNone ? weight : 0;
  return {held * token.log_prob, held, clip};
}

// Of a sequence.
RLVR_HOST_DEVICE inline Term gamma_term(const RatioScoresForward& op, const Token& sequence) {
  const bool positive = sequence.side >= 0;
  const double k = positive ? op.k_pos : op.k_neg;
  const double lambda = positive ? op.lambda_pos : op.lambda_neg;
  const double held = ::exp(lambda + k * sequence.d - lambda * sequence.ratio);
  return {held * sequence.log_prob, held};
}

RLVR_HOST_DEVICE inline Term geometric_term(double d, double side, double low, double high) {
  const Clip clip = one_sided(d, side, low, high);
  if (clip == Clip::kHigh) return {high, 0, clip};
  if (clip == Clip::kLow) return {low, 0, clip};
  return {d, 1, clip};
}

// An estimate of KL, capped; `derivative` if it is its own, else that of k2.
RLVR_HOST_DEVICE inline Term estimate(const RatioScoresForward& op, double value, double derivative) {
  if (value > op.kl_max) return {op.kl_max, 0};
  return {value, derivative};
}

RLVR_HOST_DEVICE inline Term straight_through(const RatioScoresForward& op, double value, double d) {
  return {value > op.kl_max ? op.kl_max : value, d};
}

RLVR_HOST_DEVICE inline double sign_of(double d) { return d > 0 ? 1 : d < 0 ? -1 : 0; }

RLVR_HOST_DEVICE constexpr bool is_estimate(RatioScore kind) {
  return kind == RatioScore::kK1 || kind == RatioScore::kK2 || kind == RatioScore::kK3 ||
         kind == RatioScore::kK1Plus || kind == RatioScore::kK3Plus || kind == RatioScore::kAbs;
}

// Whether a token's term depends on its ratio.
RLVR_HOST_DEVICE constexpr bool uses_ratio(RatioScore kind) {
  return kind == RatioScore::kRatio || kind == RatioScore::kClipped || kind == RatioScore::kStopped ||
         kind == RatioScore::kSoftGate || kind == RatioScore::kTrustTv || kind == RatioScore::kTrustKl;
}

// The derivative is by the log-ratio, or where is_held by the log-prob.
template <class Math = LibraryMath>
RLVR_HOST_DEVICE inline Term token_term(const RatioScoresForward& op, const Token& token) {
  const double d = token.d;
  switch (op.kind) {
    case RatioScore::kRatio:
      return {token.ratio, token.ratio};
    case RatioScore::kClipped:
      return capped_term(op, token.ratio, token.side);
    case RatioScore::kGeometric:
      return geometric_term(d, token.side, -op.epsilon_low, op.epsilon_high);
    case RatioScore::kStopped:
      return stopped_term(token.ratio, token.log_prob, op.ratio_min, op.ratio_max);
    case RatioScore::kSoftGate:
      return soft_gate_term<Math>(token.ratio, token.side > 0 ? op.tau_pos : op.tau_neg);
    case RatioScore::kTrustTv:
    case RatioScore::kTrustKl:
      return trust_term<Math>(op, token);
    case RatioScore::kGamma:
      return gamma_term(op, token);
    case RatioScore::kLogRatio:
      return {d, 1};
    case RatioScore::kK1:
      return estimate(op, d, 1);
    case RatioScore::kK2:
      return estimate(op, d * d / 2, d);
    case RatioScore::kK3: {
      const double inverse_ratio_minus_1 = Math::expm1(-d);
      return estimate(op, inverse_ratio_minus_1 + d, -inverse_ratio_minus_1);
    }
    case RatioScore::kK1Plus:
      return straight_through(op, d, d);
    case RatioScore::kK3Plus:
      return straight_through(op, Math::expm1(-d) + d, d);
    case RatioScore::kAbs:
      return estimate(op, magnitude(d), sign_of(d));
  }
  return {0, 0};
}

// Whether what multiplies a log-prob is a constant: then the clamp on d does not stop the log-prob's gradient.
RLVR_HOST_DEVICE constexpr bool is_held(RatioScore kind) {
  return kind == RatioScore::kStopped || kind == RatioScore::kTrustTv || kind == RatioScore::kTrustKl ||
         kind == RatioScore::kGamma;
}

RLVR_HOST_DEVICE inline bool flows(const RatioScoresForward& op, const LogRatio& d) {
  return !d.clamped || is_held(op.kind);
}

// Whether a score is of the ratio of its sequence: then the terms of a first pass are the log-ratios.
RLVR_HOST_DEVICE inline bool on_sequence_ratio(const RatioScoresForward& op) {
  return op.kind == RatioScore::kGamma || (op.level != RatioLevel::kToken && !is_estimate(op.kind));
}

// Whether the weights of tokens are applied with the ratio of the sequence.
RLVR_HOST_DEVICE inline bool token_form(const RatioScoresForward& op) {
  return on_sequence_ratio(op) && op.token_weights != nullptr;
}

// A token's log-ratio to the policy that sampled.
RLVR_HOST_DEVICE inline LogRatio sampler_log_ratio(const RatioScoresForward& op, int64_t t, double log_prob) {
  const double sampler = op.sampler_log_probs == nullptr ? log_prob : op.sampler_log_probs[t];
  return clamped(log_prob == sampler ? 0 : log_prob - sampler);  // equal infinities are no difference
}

// An estimate of KL times exp(d): the gradient flows through both.
RLVR_HOST_DEVICE inline Term times_ratio(const Term& term, const LogRatio& d, double ratio) {
  const double through_ratio = d.clamped ? 0 : term.value * ratio;
  return {term.value * ratio, term.derivative * ratio + through_ratio};
}

// Whether the ratio that multiplies an estimate of KL is that of a token, or that of the sequence.
RLVR_HOST_DEVICE inline bool weighted_by_token(const RatioScoresForward& op) {
  return op.kl_weighted && op.level == RatioLevel::kToken;
}
RLVR_HOST_DEVICE inline bool weighted_by_sequence(const RatioScoresForward& op) {
  return op.kl_weighted && op.level != RatioLevel::kToken;
}

// Token t's term of the sum, before its weight; its derivative is 0 where no gradient flows.
RLVR_HOST_DEVICE inline Term whole_term(const RatioScoresForward& op, int64_t t, const LogRatio& d,
                                        const Token& token) {
  Term term = on_sequence_ratio(op) ? Term{d.value, 1} : token_term(op, token);
  if (!flows(op, d)) term.derivative = 0;  // selected, not multiplied
  if (!weighted_by_token(op)) return term;
  const LogRatio sampler = sampler_log_ratio(op, t, token.log_prob);
  return times_ratio(term, sampler, ::exp(sampler.value));
}

// The derivative of token t's weighted term, of sequence i, by its log-prob, where a score is a mean of terms that each
// depend on one token: all of tokens' ratios, but kGeometric.
RLVR_HOST_DEVICE inline double token_derivative(const RatioScoresForward& op, int64_t i, int64_t t, double log_prob) {
  const LogRatio d = clamped(op.old_log_probs == nullptr ? 0 : log_prob - op.old_log_probs[t]);
  const double ratio = uses_ratio(op.kind) ? ::exp(d.value) : 0;
  const Token token{d.value, ratio, token_side(op, i, t), log_prob, old_log_prob(op, t, log_prob)};
  return token_weight(op, t) * whole_term(op, t, d, token).derivative;
}

// Whether the log-ratios to the policy that sampled are part of a ratio of the sequence, and a token's part.
RLVR_HOST_DEVICE inline bool sums_sampler(const RatioScoresForward& op) {
  return weighted_by_sequence(op) || (op.kind == RatioScore::kGamma && op.sampler_log_probs != nullptr);
}

RLVR_HOST_DEVICE inline double sampler_part(const RatioScoresForward& op, int64_t t) {
  const double log_prob = op.log_probs[t];
  return sampler_log_ratio(op, t, op.kind == RatioScore::kGamma ? old_log_prob(op, t, log_prob) : log_prob).value;
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
  double sampler = 0;  // log-ratios to the policy that sampled, where they are part of a ratio of the sequence
  double log_prob = 0;  // where a score of the sequence's ratio is_held
};

RLVR_HOST_DEVICE inline void add_clip(Sums& sums, Clip clip) {
  sums.low += clip == Clip::kLow ? 1 : 0;
  sums.high += clip == Clip::kHigh ? 1 : 0;
}

// Adds an unmasked token of sequence i, and writes its derivative before the sequence's factor.
RLVR_HOST_DEVICE inline void add_token(const RatioScoresForward& op, int64_t i, int64_t t, Sums& sums) {
  const LogRatio d = log_ratio(op, t);
  const double ratio = op.ratio_stats != nullptr || uses_ratio(op.kind) ? ::exp(d.value) : 0;
  const double log_prob = op.log_probs[t];
  const Term term = whole_term(op, t, d, {d.value, ratio, token_side(op, i, t), log_prob, old_log_prob(op, t, log_prob)});
  const double weight = token_form(op) ? 1 : token_weight(op, t);
  sums.count += 1;
  sums.value += weight * term.value;
  add_clip(sums, term.clip);
  op.score_grads[t] = weight * term.derivative;
  if (sums_sampler(op)) sums.sampler += sampler_part(op, t);
  if (is_held(op.kind)) sums.log_prob += log_prob;
  if (op.ratio_stats == nullptr) return;
  sums.ratio += ratio;
  sums.ratio_square += ratio * ratio;
  sums.log_ratio += d.value;
  sums.largest_ratio = ratio > sums.largest_ratio ? ratio : sums.largest_ratio;
}

// A ratio of a sequence.
struct SequenceRatio {
  double log;
  double value;
  double share;  // of each log-ratio in its logarithm: the derivative
};

RLVR_HOST_DEVICE inline SequenceRatio sequence_ratio(const RatioScoresForward& op, double sum, double divisor) {
  if (op.level == RatioLevel::kSequence) {
    const double mean = sum / divisor;
    return {mean, ::exp(mean), 1 / divisor};
  }
  const LogRatio within = clamped(sum);
  return {within.value, ::exp(within.value), within.clamped ? 0.0 : 1.0};
}

// That of on_sequence_ratio.
RLVR_HOST_DEVICE inline SequenceRatio score_ratio(const RatioScoresForward& op, const Sums& sums, double divisor) {
  if (op.kind != RatioScore::kGamma) return sequence_ratio(op, sums.value, divisor);
  constexpr double kLeast = -18.420680743952367;  // log 1e-8
  const double log = clamped(sums.value + sums.sampler).value;
  const double within = log < kLeast ? kLeast : log;
  return {within, ::exp(within), 0};
}

// The score of a sequence's ratio, of one side; its derivative is by each log-prob, where a gradient flows.
RLVR_HOST_DEVICE inline Term ratio_term(const RatioScoresForward& op, const SequenceRatio& ratio, double side,
                                        double log_prob, double divisor) {
  Term term = token_term(op, {ratio.log, ratio.value, side, log_prob, 0});
  term.derivative *= is_held(op.kind) ? 1 / divisor : ratio.share;
  return term;
}

// The second pass of the token form: token t's share of mean w_t * f(S).
RLVR_HOST_DEVICE inline void add_token_form(const RatioScoresForward& op, int64_t i, int64_t t,
                                            const SequenceRatio& ratio, double divisor, Sums& sums) {
  const Term term = ratio_term(op, ratio, token_side(op, i, t), op.log_probs[t], divisor);
  const double weight = token_weight(op, t);
  sums.value += weight * term.value;
  add_clip(sums, term.clip);
  op.score_grads[t] *= weight * term.derivative;
}

// A score without the token form, and the factor on every token's derivative.
RLVR_HOST_DEVICE inline Term sequence_score(const RatioScoresForward& op, const Sums& sums, double divisor, double side) {
  if (on_sequence_ratio(op))
    return ratio_term(op, score_ratio(op, sums, divisor), side, sums.log_prob / divisor, divisor);
  const double mean = sums.value / divisor;
  if (op.kind != RatioScore::kGeometric) return {mean, 1 / divisor};
  return {::exp(mean), ::exp(mean) / divisor};
}

// Where weighted_by_sequence: token t's derivative of mean * ratio, from that of its term.
RLVR_HOST_DEVICE inline void weigh_gradient(const RatioScoresForward& op, int64_t t, const SequenceRatio& ratio,
                                            double mean, double divisor) {
  const bool through = !sampler_log_ratio(op, t, op.log_probs[t]).clamped;
  op.score_grads[t] = op.score_grads[t] * ratio.value / divisor + (through ? mean * ratio.value * ratio.share : 0);
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
