// The sequences of ratio-scores, forward: plain loops over a few hundred tokens at a time, one simple step after the
// other, which the compiler turns into vectors of the instruction set that it compiles for. Included by
// ratio_scores_<set>.cpp; the rules themselves are ops/ratio_rules.h. Masked tokens may hold anything: what comes of
// them is replaced, not multiplied.
#pragma once

#include <cmath>

#include "cpu/double_exp.h"
#include "cpu/ratio_scores_simd.h"
#include "ops/ratio_rules.h"

namespace rlvr {
namespace {

using namespace ratio;

constexpr int64_t kChunk = 256;
constexpr int kLanes = 8;

// Sums side by side, or the largest of positive values: an addition waits for the one before it.
struct Lanes {
  double lane[kLanes] = {};

  void add(const double* x, int64_t count) {
    double sum[kLanes];  // in registers, as long as no index into it is computed
    for (int j = 0; j < kLanes; ++j) sum[j] = lane[j];
    int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes)
      for (int j = 0; j < kLanes; ++j) sum[j] += x[k + j];
    for (; k < count; ++k) sum[0] += x[k];
    for (int j = 0; j < kLanes; ++j) lane[j] = sum[j];
  }
  void raise(const double* x, int64_t count) {
    double most[kLanes];
    for (int j = 0; j < kLanes; ++j) most[j] = lane[j];
    int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes)
      for (int j = 0; j < kLanes; ++j) most[j] = x[k + j] > most[j] ? x[k + j] : most[j];
    for (; k < count; ++k) most[0] = x[k] > most[0] ? x[k] : most[0];
    for (int j = 0; j < kLanes; ++j) lane[j] = most[j];
  }
  double largest() const {
    double most = 0;
    for (double one : lane) most = one > most ? one : most;
    return most;
  }
  double total() const {
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  }
};

// Whether a bound can replace a token's term.
constexpr bool clips(RatioScore kind) {
  return kind == RatioScore::kClipped || kind == RatioScore::kGeometric || kind == RatioScore::kStopped;
}

template <RatioScore kKind, bool kStats>
struct RatioSequence {
  const RatioScoresForward& op;  // its kind is kKind
  const int64_t i;
  double count = 0;
  Lanes value, low, high, ratio, ratio_square, log_ratio, largest_ratio;

  RatioSequence(const RatioScoresForward& of, int64_t index) : op(of), i(index) {}

  // Tokens [t, t + n), n <= kChunk: their derivatives before the sequence's factor, and their share of the sums.
  void add(int64_t t, int64_t n) {
    double d[kChunk];  // log-ratio, clamped
    double r[kChunk];
    double side[kChunk];
    double term[kChunk];
    double below[kChunk];
    double above[kChunk];
    RatioScoresForward rules = op;
    rules.kind = kKind;  // a constant, so that no loop asks for it
    const double* log_probs = op.log_probs + t;
    double* score_grads = op.score_grads + t;
    fill_log_ratios(t, n, d);
    if constexpr (kStats || uses_ratio(kKind))
      for (int64_t k = 0; k < n; ++k) r[k] = VectorMath::exp(clamped(d[k]).value);
    if (op.sides == nullptr && op.token_weights != nullptr)
      for (int64_t k = 0; k < n; ++k) side[k] = op.token_weights[t + k];
    else
      fill(side, n, op.sides == nullptr ? 0 : op.sides[i]);
    for (int64_t k = 0; k < n; ++k) {
      const double within = clamped(d[k]).value;
      const double ratio_of = uses_ratio(kKind) ? r[k] : 0;
      const Term one = token_term<VectorMath>(rules, within, ratio_of, side[k], log_probs[k]);
      term[k] = one.value;
      below[k] = one.clip == Clip::kLow ? 1 : 0;
      above[k] = one.clip == Clip::kHigh ? 1 : 0;
      // The stopped ratio's weight is a constant: the clamp on d does not stop its gradient.
      score_grads[k] = kKind == RatioScore::kStopped || within == d[k] ? one.derivative : 0;
      d[k] = within;
    }
    if (op.token_weights != nullptr && !token_form(op))
      for (int64_t k = 0; k < n; ++k) {
        term[k] *= op.token_weights[t + k];
        score_grads[k] *= op.token_weights[t + k];
      }
    count += static_cast<double>(n);
    if (op.mask != nullptr)
      for (int64_t k = 0; k < n; ++k) {
        if (op.mask[t + k] != 0) continue;
        count -= 1;
        term[k] = score_grads[k] = below[k] = above[k] = d[k] = r[k] = 0;
      }
    value.add(term, n);
    if constexpr (clips(kKind)) {
      low.add(below, n);
      high.add(above, n);
    }
    if constexpr (kStats) {
      log_ratio.add(d, n);
      ratio.add(r, n);
      largest_ratio.raise(r, n);
      for (int64_t k = 0; k < n; ++k) r[k] *= r[k];
      ratio_square.add(r, n);
    }
  }

  static void fill(double* x, int64_t n, double with) {
    for (int64_t k = 0; k < n; ++k) x[k] = with;
  }

  void fill_log_ratios(int64_t t, int64_t n, double* d) const {
    if (op.old_log_probs == nullptr) return fill(d, n, 0);
    for (int64_t k = 0; k < n; ++k) d[k] = op.log_probs[t + k] - op.old_log_probs[t + k];
  }

  Sums sums() const {
    return {count,         value.total(),        low.total(),       high.total(),
            ratio.total(), ratio_square.total(), log_ratio.total(), largest_ratio.largest()};
  }
};

// Weighs in the sequence's ratio token by token; returns the mean.
double token_form_score(const RatioScoresForward& op, int64_t i, double ratio, double divisor, Sums& sums) {
  sums.value = 0;
  for (int64_t t = op.cu_seqlens[i]; t < op.cu_seqlens[i + 1]; ++t)
    if (op.mask == nullptr || op.mask[t] != 0) add_token_form(op, i, t, ratio, divisor, sums);
  return sums.value / divisor;
}

template <RatioScore kKind, bool kStats>
void score_sequence(const RatioScoresForward& op, int64_t i) {
  const int64_t begin = op.cu_seqlens[i];
  const int64_t end = op.cu_seqlens[i + 1];
  RatioSequence<kKind, kStats> sequence(op, i);
  for (int64_t t = begin; t < end; t += kChunk) sequence.add(t, end - t < kChunk ? end - t : kChunk);
  Sums sums = sequence.sums();
  const double divisor = sums.count > 1 ? sums.count : 1;
  if (token_form(op)) {
    op.scores[i] = token_form_score(op, i, std::exp(sums.value / divisor), divisor, sums);
  } else {
    const Term score = sequence_score(op, sums.value / divisor, op.sides == nullptr ? 0 : op.sides[i]);
    const double factor = score.derivative / divisor;
    for (int64_t t = begin; t < end; ++t) op.score_grads[t] *= factor;
    op.scores[i] = score.value;
    if (score.clip == Clip::kLow) sums.low = sums.count;
    if (score.clip == Clip::kHigh) sums.high = sums.count;
  }
  op.token_counts[i] = sums.count;
  op.clipped_low[i] = static_cast<int32_t>(sums.low);
  op.clipped_high[i] = static_cast<int32_t>(sums.high);
  write_stats(op, i, sums);
}

// The op's choices as constants: no branch on them is left in the loops.
template <RatioScore kKind>
void score_sequences(RatioScoresForward op, int64_t begin, int64_t end) {
  op.kind = kKind;
  for (int64_t i = begin; i < end && !cancelled(op.cancel); ++i)
    op.ratio_stats == nullptr ? score_sequence<kKind, false>(op, i) : score_sequence<kKind, true>(op, i);
}

void ratio_scores_rows(const RatioScoresForward& op, int64_t begin, int64_t end) {
  switch (op.kind) {
    case RatioScore::kRatio:
      return score_sequences<RatioScore::kRatio>(op, begin, end);
    case RatioScore::kClipped:
      return score_sequences<RatioScore::kClipped>(op, begin, end);
    case RatioScore::kSequence:
      return score_sequences<RatioScore::kSequence>(op, begin, end);
    case RatioScore::kGeometric:
      return score_sequences<RatioScore::kGeometric>(op, begin, end);
    case RatioScore::kStopped:
      return score_sequences<RatioScore::kStopped>(op, begin, end);
    case RatioScore::kSoftGate:
      return score_sequences<RatioScore::kSoftGate>(op, begin, end);
    case RatioScore::kK1:
      return score_sequences<RatioScore::kK1>(op, begin, end);
    case RatioScore::kK2:
      return score_sequences<RatioScore::kK2>(op, begin, end);
    case RatioScore::kK3:
      return score_sequences<RatioScore::kK3>(op, begin, end);
  }
}

}  // namespace
}  // namespace rlvr
