// The forward pass over rows; the sums of one are row_sums.h. Included by token_log_probs_rows.h.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/row_sums.h"
#include "ops/token_log_probs.h"

namespace rlvr {
namespace {

template <class S, class E, bool kExactScale>
struct ForwardRows {
  using Element = typename E::Element;

  template <bool kEntropy, bool kKeep>
  static bool row_sums(const Element* x, int64_t count, double inverse_temperature, const Kept& kept, float& reference,
                       Sums& rest) {
    if (count <= kShort) return short_row_sums<E, kEntropy>(x, count, inverse_temperature, reference, rest);
    return RowPass<S, E, kExactScale, kEntropy, kKeep>(x, count, inverse_temperature, kept).sums(reference, rest);
  }

  // Row t. Returns whether it is finite, and writes its outputs if so.
  template <bool kEntropy, bool kKeep>
  static bool finite_row(const TokenRowsForward& op, int64_t t, const Kept& kept) {
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    const int64_t target = op.targets[t];
    if (target < kNoTarget || target >= op.vocab) return false;  // changed under us: never read out of bounds
    const double inverse_temperature = 1 / op.temperature;
    float reference;
    Sums rest;
    if (!row_sums<kEntropy, kKeep>(x, op.vocab, inverse_temperature, kept, reference, rest)) {
      if (reference == -kInfinity) op.log_sum_exp[t] = static_cast<double>(reference);
      return false;
    }
    const double at_target = target == kNoTarget ? 0 : static_cast<double>(E::widen(x[target]));
    const double log_rest = std::log1p(rest.total);
    const double log_prob = (at_target - static_cast<double>(reference)) * inverse_temperature - log_rest;
    if (!std::isfinite(log_prob)) return false;
    op.log_probs[t] = log_prob;
    op.log_sum_exp[t] = static_cast<double>(reference) * inverse_temperature + log_rest;
    if constexpr (kEntropy) op.entropy[t] = log_rest - rest.weighted * inverse_temperature / (1 + rest.total);
    return true;
  }

  // Row t, whose terms are kept if it is neither masked nor short.
  template <bool kKeep>
  static void forward_row(const TokenRowsForward& op, int64_t t, const Kept& kept = {}) {
    op.log_probs[t] = 0;
    op.log_sum_exp[t] = 0;
    if (op.entropy != nullptr) op.entropy[t] = 0;
    op.kept[t] = 0;
    if (op.mask != nullptr && op.mask[t] == 0) return;
    op.kept[t] = op.entropy != nullptr ? finite_row<true, kKeep>(op, t, kept) : finite_row<false, kKeep>(op, t, kept);
  }

  static void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) forward_row<false>(op, t);
  }
};

}  // namespace
}  // namespace rlvr
