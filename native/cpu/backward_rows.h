// The backward pass over rows. Included by token_log_probs_rows.h.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/gradient_loop.h"
#include "cpu/token_log_probs_simd.h"
#include "ops/token_log_probs.h"

namespace rlvr {
namespace {

constexpr int64_t kStreamed = int64_t{1} << 23;  // elements of a gradient that outgrows the caches

// Whether a gradient is written by non-temporal stores: one that no cache will hold until it is used need not be fetched first,
// nor evict what is there.
template <class S>
bool streams(bool apart, int64_t elements) {
  return S::kStreams && apart && elements >= kStreamed;
}

template <class S, class E>
struct BackwardRows : GradientLoop<S, E> {
  using Loop = GradientLoop<S, E>;
  using Element = typename Loop::Element;
  using Float = typename Loop::Float;
  using Scale = typename Loop::Scale;
  using Multiple = typename Loop::Multiple;
  using General = typename Loop::General;

  // The target's own entry, without the cancellation of 1 - p.
  static double target_entry(const RowUpstream& upstream, float x) {
    const auto& [g, h, entropy, log_sum_exp, temperature] = upstream;
    const double inverse_temperature = 1 / temperature;
    const double log_prob = static_cast<double>(x) * inverse_temperature - log_sum_exp;
    double entry = -g * std::expm1(log_prob);
    if (h != 0 && std::isfinite(log_prob)) entry -= h * std::exp(log_prob) * (log_prob + entropy);
    return entry * inverse_temperature + 0.0;
  }

  // All entries, as if none were the target's. Returns what Loop::gradient does.
  template <bool kStream, bool kWatch>
  static Float entries(const RowUpstream& upstream, const Scale& scale, const Element* x, Element* out, int64_t count) {
    const auto& [g, h, entropy, log_sum_exp, temperature] = upstream;
    const double inverse_temperature = 1 / temperature;
    // log p_v = (x_v - shift) / T - residual, with `shift` a float32 so that x_v - shift is nearly exact.
    const float shift = saturate(log_sum_exp * temperature);
    const double residual = log_sum_exp - static_cast<double>(shift) * inverse_temperature;
    const double factor = std::exp(-residual) * inverse_temperature;
    const double alpha = (h == 0 ? -g : -(g + h * (entropy - residual))) * factor;
    const double beta = h == 0 ? 0 : -h * inverse_temperature * factor;
    if (h == 0 && Multiple::suits(inverse_temperature, shift, alpha))
      return Loop::template gradient<kStream, kWatch>(x, out, count, Multiple(inverse_temperature, shift, alpha));
    return Loop::template gradient<kStream, kWatch>(x, out, count, General(scale, shift, alpha, beta));
  }

  static bool in_range(double entry) { return entry < E::kOverflow && -entry < E::kOverflow; }

  // Whether a row of known probabilities is finite, with `entry` at its target.
  static bool finite_row(double entry, double bound, const Element* out, int64_t count) {
    return in_range(entry) && Loop::is_finite(S::set(Loop::kZero), bound, out, count);
  }

  // Returns whether the row is finite.
  template <bool kStream, bool kWatch>
  static bool backward_row(const TokenLogProbsBackward& op, int64_t t, const Scale& scale) {
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    auto* out = static_cast<Element*>(op.grad_logits) + t * op.grad_row_stride;
    const bool masked = op.mask != nullptr && op.mask[t] == 0;
    const double g = upstream_of(op, t);
    const double h = masked || op.grad_entropy == nullptr ? 0 : op.grad_entropy[t];
    const int64_t target = op.targets[t];
    if ((g == 0 && h == 0) || target < kNoTarget || target >= op.vocab) {
      std::memset(out, 0, static_cast<size_t>(op.vocab) * sizeof(Element));
      return true;
    }
    const double entropy = h == 0 ? 0 : op.entropy[t];
    const RowUpstream upstream{g, h, entropy, op.log_sum_exp[t], op.temperature};
    const bool here = target != kNoTarget;
    const double entry = here ? target_entry(upstream, E::widen(x[target])) : 0;
    const Float exponents = entries<kStream, kWatch>(upstream, scale, x, out, op.vocab);
    if (here) out[target] = E::narrow(saturate(entry));
    const double bound = gradient_bound(g, h, entropy, 1 / op.temperature);
    return in_range(entry) && Loop::is_finite(exponents, bound, out, op.vocab);
  }

  template <bool kStream, bool kWatch>
  static int64_t backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
    const Scale scale(1 / op.temperature, 0.0f);
    int64_t first = end;
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t)
      if (!backward_row<kStream, kWatch>(op, t, scale) && first == end) first = t;
    if constexpr (kStream) S::fence();
    return first;
  }

  // Not inlined: the one pass has some rows done here as well.
  [[gnu::noinline]] static int64_t backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
    if (streams<S>(op.grad_logits != op.logits, op.tokens * op.vocab))
      return op.watch ? backward_rows<S::kStreams, true>(op, begin, end) : backward_rows<S::kStreams, false>(op, begin, end);
    if constexpr (!S::kCompact)
      if (!op.watch) return backward_rows<false, false>(op, begin, end);
    return backward_rows<false, true>(op, begin, end);
  }
};

}  // namespace
}  // namespace rlvr
