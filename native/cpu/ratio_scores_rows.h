// The sequences of ratio-scores, forward: plain loops over a few hundred tokens at a time, one simple step after the
// other, which the compiler vectorises for the instruction set that it targets. Included by ratio_scores_<set>.cpp; the
// rules themselves are in ops/ratio_rules.h. Masked tokens may hold anything: their results are replaced by 0, not
// multiplied by it.
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

// Independent partial sums, or maxima of positive values: an addition waits for the one before it.
struct Lanes {
  double lane[kLanes] = {};

  void add(const double* x, int64_t count) {
    double sum[kLanes];  // in registers, as long as no index into it is a run-time value
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
  return kind == RatioScore::kClipped || kind == RatioScore::kGeometric || kind == RatioScore::kStopped ||
         kind == RatioScore::kTrustTv || kind == RatioScore::kTrustKl;
}

constexpr bool is_trust(RatioScore kind) { return kind == RatioScore::kTrustTv || kind == RatioScore::kTrustKl; }

// Whether a token's term depends on its side.
constexpr bool has_sides(RatioScore kind) {
  return kind == RatioScore::kClipped || kind == RatioScore::kGeometric || kind == RatioScore::kSoftGate ||
         kind == RatioScore::kTrustTv || kind == RatioScore::kTrustKl;
}

// Tokens [t, t + n), array by array. A pass fills only what a later one reads. Aligned, so that no vector straddles two
// cache lines.
struct alignas(64) Chunk {
  double log_ratio[kChunk];  // clamped once the terms are known, for the stats
  double ratio[kChunk];
  double side[kChunk];
  double term[kChunk];
  double below[kChunk];  // 1 where the lower bound replaced the term
  double above[kChunk];
  double sampler[kChunk];
  double log_prob[kChunk];
  int64_t t;
  int64_t n;  // at most kChunk
};

// The terms and their derivatives before the sequence's factor. `kind` is the op's, or kLogRatio for the first pass of a
// score on_sequence_ratio; these are the loops that are compiled for each, so that none branches on it.
template <RatioScore kKind>
void fill_terms(const RatioScoresForward& op, Chunk& chunk) {
  RatioScoresForward rules = op;
  rules.kind = kKind;
  const bool always = is_held(kKind == RatioScore::kLogRatio ? op.kind : kKind);
  const double* log_probs = op.log_probs + chunk.t;
  double* score_grads = op.score_grads + chunk.t;
  for (int64_t k = 0; k < chunk.n; ++k) {
    const double d = chunk.log_ratio[k];
    const double within = clamped(d).value;
    const double ratio_of = uses_ratio(kKind) ? chunk.ratio[k] : 0;
    const double side_of = has_sides(kKind) ? chunk.side[k] : 0;
    const double old_of = is_trust(kKind) ? old_log_prob(op, chunk.t + k, log_probs[k]) : 0;
    const Term one = token_term<VectorMath>(rules, {within, ratio_of, side_of, log_probs[k], old_of});
    score_grads[k] = always || within == d ? one.derivative : 0;
    chunk.term[k] = one.value;
    if constexpr (clips(kKind)) {
      chunk.below[k] = one.clip == Clip::kLow ? 1 : 0;
      chunk.above[k] = one.clip == Clip::kHigh ? 1 : 0;
    }
    chunk.log_ratio[k] = within;
  }
}

using FillTerms = void (*)(const RatioScoresForward& op, Chunk& chunk);

FillTerms terms_of(RatioScore kind) {
  switch (kind) {
    case RatioScore::kRatio:
      return fill_terms<RatioScore::kRatio>;
    case RatioScore::kClipped:
      return fill_terms<RatioScore::kClipped>;
    case RatioScore::kGeometric:
      return fill_terms<RatioScore::kGeometric>;
    case RatioScore::kStopped:
      return fill_terms<RatioScore::kStopped>;
    case RatioScore::kSoftGate:
      return fill_terms<RatioScore::kSoftGate>;
    case RatioScore::kTrustTv:
      return fill_terms<RatioScore::kTrustTv>;
    case RatioScore::kTrustKl:
      return fill_terms<RatioScore::kTrustKl>;
    case RatioScore::kLogRatio:
    case RatioScore::kGamma:  // always on_sequence_ratio
      return fill_terms<RatioScore::kLogRatio>;
    case RatioScore::kK1:
      return fill_terms<RatioScore::kK1>;
    case RatioScore::kK2:
      return fill_terms<RatioScore::kK2>;
    case RatioScore::kK3:
      return fill_terms<RatioScore::kK3>;
    case RatioScore::kK1Plus:
      return fill_terms<RatioScore::kK1Plus>;
    case RatioScore::kK3Plus:
      return fill_terms<RatioScore::kK3Plus>;
    case RatioScore::kAbs:
      return fill_terms<RatioScore::kAbs>;
  }
  return nullptr;
}

struct RatioSequence {
  const RatioScoresForward& op;
  const int64_t i;
  const RatioScore kind;  // as in fill_terms
  const FillTerms terms;
  const bool stats;
  double count = 0;
  Lanes value, low, high, ratio, ratio_square, log_ratio, largest_ratio, sampler, log_prob;

  RatioSequence(const RatioScoresForward& of, int64_t index)
      : op(of),
        i(index),
        kind(on_sequence_ratio(of) ? RatioScore::kLogRatio : of.kind),
        terms(terms_of(kind)),
        stats(of.ratio_stats != nullptr) {}

  // Tokens [t, t + n), n <= kChunk: their derivatives before the sequence's factor, and their share of the sums.
  void add(int64_t t, int64_t n) {
    Chunk chunk;
    chunk.t = t;
    chunk.n = n;
    fill_log_ratios(chunk);
    if (stats || uses_ratio(kind)) fill_ratios(chunk);
    if (has_sides(kind)) fill_sides(chunk);
    terms(op, chunk);
    if (is_estimate(kind) && weighted_by_token(op)) multiply_by_ratios(chunk);
    if (sums_sampler(op)) fill_sampler(chunk);
    if (sums_log_probs()) fill_log_probs(chunk);
    if (op.token_weights != nullptr && !token_form(op)) weigh_terms(chunk);
    count += static_cast<double>(n);
    if (op.mask != nullptr) drop_masked(chunk);
    add_to_sums(chunk);
  }

  bool sums_log_probs() const { return kind == RatioScore::kLogRatio && is_held(op.kind); }

  static void fill(double* x, int64_t n, double with) {
    for (int64_t k = 0; k < n; ++k) x[k] = with;
  }

  void fill_log_ratios(Chunk& chunk) const {
    if (op.old_log_probs == nullptr) return fill(chunk.log_ratio, chunk.n, 0);
    const double* log_probs = op.log_probs + chunk.t;
    const double* old_log_probs = op.old_log_probs + chunk.t;
    for (int64_t k = 0; k < chunk.n; ++k) chunk.log_ratio[k] = log_probs[k] - old_log_probs[k];
  }

  static void fill_ratios(Chunk& chunk) {
    for (int64_t k = 0; k < chunk.n; ++k) chunk.ratio[k] = VectorMath::exp(clamped(chunk.log_ratio[k]).value);
  }

  void fill_sides(Chunk& chunk) const {
    if (op.sides != nullptr) return fill(chunk.side, chunk.n, op.sides[i]);
    if (op.token_weights == nullptr) return fill(chunk.side, chunk.n, 0);
    for (int64_t k = 0; k < chunk.n; ++k) chunk.side[k] = op.token_weights[chunk.t + k];
  }

  void multiply_by_ratios(Chunk& chunk) const {
    const double* log_probs = op.log_probs + chunk.t;
    double* score_grads = op.score_grads + chunk.t;
    for (int64_t k = 0; k < chunk.n; ++k) {
      const LogRatio d = sampler_log_ratio(op, chunk.t + k, log_probs[k]);
      const Term one = times_ratio({chunk.term[k], score_grads[k]}, d, VectorMath::exp(d.value));
      chunk.term[k] = one.value;
      score_grads[k] = one.derivative;
    }
  }

  void fill_sampler(Chunk& chunk) const {
    for (int64_t k = 0; k < chunk.n; ++k) chunk.sampler[k] = sampler_part(op, chunk.t + k);
  }

  void fill_log_probs(Chunk& chunk) const {
    for (int64_t k = 0; k < chunk.n; ++k) chunk.log_prob[k] = op.log_probs[chunk.t + k];
  }

  void weigh_terms(Chunk& chunk) const {
    const double* weights = op.token_weights + chunk.t;
    double* score_grads = op.score_grads + chunk.t;
    for (int64_t k = 0; k < chunk.n; ++k) {
      chunk.term[k] *= weights[k];
      score_grads[k] *= weights[k];
    }
  }

  // Also in arrays that nobody filled and nobody will read.
  void drop_masked(Chunk& chunk) {
    double* score_grads = op.score_grads + chunk.t;
    for (int64_t k = 0; k < chunk.n; ++k) {
      if (op.mask[chunk.t + k] != 0) continue;
      count -= 1;
      chunk.term[k] = score_grads[k] = 0;
      chunk.below[k] = chunk.above[k] = 0;
      chunk.log_ratio[k] = chunk.ratio[k] = 0;
      chunk.sampler[k] = chunk.log_prob[k] = 0;
    }
  }

  void add_to_sums(Chunk& chunk) {
    value.add(chunk.term, chunk.n);
    if (sums_sampler(op)) sampler.add(chunk.sampler, chunk.n);
    if (sums_log_probs()) log_prob.add(chunk.log_prob, chunk.n);
    if (clips(kind)) {
      low.add(chunk.below, chunk.n);
      high.add(chunk.above, chunk.n);
    }
    if (!stats) return;
    log_ratio.add(chunk.log_ratio, chunk.n);
    ratio.add(chunk.ratio, chunk.n);
    largest_ratio.raise(chunk.ratio, chunk.n);
    for (int64_t k = 0; k < chunk.n; ++k) chunk.ratio[k] *= chunk.ratio[k];
    ratio_square.add(chunk.ratio, chunk.n);
  }

  Sums sums() const {
    return {count,         value.total(),        low.total(),       high.total(),
            ratio.total(), ratio_square.total(), log_ratio.total(), largest_ratio.largest(),
            sampler.total(), log_prob.total()};
  }
};

// Applies the sequence's ratio token by token; returns the mean.
double token_form_score(const RatioScoresForward& op, int64_t i, double divisor, Sums& sums) {
  const SequenceRatio ratio = score_ratio(op, sums, divisor);
  sums.value = 0;
  for (int64_t t = op.cu_seqlens[i]; t < op.cu_seqlens[i + 1]; ++t)
    if (op.mask == nullptr || op.mask[t] != 0) add_token_form(op, i, t, ratio, divisor, sums);
  return sums.value / divisor;
}

void score_sequence(const RatioScoresForward& op, int64_t i) {
  const int64_t begin = op.cu_seqlens[i];
  const int64_t end = op.cu_seqlens[i + 1];
  RatioSequence sequence(op, i);
  for (int64_t t = begin; t < end; t += kChunk) sequence.add(t, end - t < kChunk ? end - t : kChunk);
  Sums sums = sequence.sums();
  const double divisor = sums.count > 1 ? sums.count : 1;
  if (token_form(op)) {
    op.scores[i] = token_form_score(op, i, divisor, sums);
  } else if (weighted_by_sequence(op)) {
    const double mean = sums.value / divisor;
    const SequenceRatio ratio = sequence_ratio(op, sums.sampler, divisor);
    for (int64_t t = begin; t < end; ++t)
      if (op.mask == nullptr || op.mask[t] != 0) weigh_gradient(op, t, ratio, mean, divisor);
    op.scores[i] = mean * ratio.value;
  } else {
    const Term score = sequence_score(op, sums, divisor, op.sides == nullptr ? 0 : op.sides[i]);
    for (int64_t t = begin; t < end; ++t) op.score_grads[t] *= score.derivative;
    op.scores[i] = score.value;
    if (score.clip == Clip::kLow) sums.low = sums.count;
    if (score.clip == Clip::kHigh) sums.high = sums.count;
  }
  op.token_counts[i] = sums.count;
  op.clipped_low[i] = static_cast<int32_t>(sums.low);
  op.clipped_high[i] = static_cast<int32_t>(sums.high);
  write_stats(op, i, sums);
}

void ratio_scores_rows(const RatioScoresForward& op, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end && !cancelled(op.cancel); ++i) score_sequence(op, i);
}

}  // namespace
}  // namespace rlvr
