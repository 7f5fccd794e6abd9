// One row of token-log-probs, forward and backward, written once against a SIMD wrapper `S` and a 16- or
// 32-bit element type `E`. Included by token_log_probs_<simd>.cpp, each in its own namespace, so that
// code compiled for one instruction set is never linked into another's path. For the same reason no
// standard-library template is used here: the linker keeps one copy of those for the whole addon.
//
// The forward pass is row_sums.h. The backward pass reads an element and writes its gradient to the same place in a
// second array, or over it.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/logits_elements.h"
#include "cpu/one_pass.h"
#include "cpu/row_sums.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr {
namespace {

constexpr int64_t kStreamed = int64_t{1} << 23;  // elements of a gradient that outgrows the caches

template <class S, class E, bool kExactScale>
struct ForwardRows {
  using Element = typename E::Element;

  template <bool kEntropy>
  static bool row_sums(const Element* x, int64_t count, double inverse_temperature, float& reference, Sums& rest) {
    if (count <= kShort) return short_row_sums<E, kEntropy>(x, count, inverse_temperature, reference, rest);
    return RowPass<S, E, kExactScale, kEntropy>(x, count, inverse_temperature).sums(reference, rest);
  }

  // Row t. Returns whether it is finite, and writes its outputs if so.
  template <bool kEntropy>
  static bool forward_row(const TokenLogProbsForward& op, int64_t t) {
    const auto* x = static_cast<const Element*>(op.logits) + t * op.row_stride;
    const int64_t target = op.targets[t];
    if (target < 0 || target >= op.vocab) return false;  // changed under us: never read out of bounds
    const double inverse_temperature = 1 / op.temperature;
    float reference;
    Sums rest;
    if (!row_sums<kEntropy>(x, op.vocab, inverse_temperature, reference, rest)) return false;
    const auto at_target = static_cast<double>(E::widen(x[target]));
    const double log_rest = std::log1p(rest.total);
    const double log_prob = (at_target - static_cast<double>(reference)) * inverse_temperature - log_rest;
    if (!std::isfinite(log_prob)) return false;
    op.log_probs[t] = log_prob;
    op.log_sum_exp[t] = static_cast<double>(reference) * inverse_temperature + log_rest;
    if constexpr (kEntropy) op.entropy[t] = log_rest - rest.weighted * inverse_temperature / (1 + rest.total);
    return true;
  }

  static void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) {
      op.log_probs[t] = 0;
      op.log_sum_exp[t] = 0;
      if (op.entropy != nullptr) op.entropy[t] = 0;
      op.kept[t] = 0;
      if (op.mask != nullptr && op.mask[t] == 0) continue;
      op.kept[t] = op.entropy != nullptr ? forward_row<true>(op, t) : forward_row<false>(op, t);
    }
  }
};

template <class S, class E>
struct BackwardRows {
  using Element = typename E::Element;
  using Float = typename S::Float;
  using Scale = typename S::template Scale<E::kGradient, E::kExactGradient>;
  static constexpr int kWidth = S::kWidth;
  static constexpr float kZero = kExponentMagic<S::kEntries> - 127.0f;  // the exponent of 2^-127, as S::exp gives it

  // alpha * exp((x - shift) / T). The factor costs nothing: it is in the polynomial.
  struct Multiple {
    Scale scale;
    Exp2Multiple<S, E::kGradient> polynomial;

    Multiple(double inverse_temperature, float shift, double alpha)
        : scale(inverse_temperature, shift), polynomial(alpha * scale.unit) {}

    // Whether shift and alpha are small enough, and alpha large enough, for Scale and Exp2Multiple.
    static bool suits(double inverse_temperature, float shift, double alpha) {
      const double exponent = std::fabs(static_cast<double>(shift) * inverse_temperature);
      return exponent < 65536 && std::fabs(alpha) < 0x1p100 && std::fabs(alpha) > 0x1p-80;
    }

    template <int N>
    [[gnu::always_inline]] void operator()(Float (&u)[N], Float (&shifted)[N]) const {
      const Multiple& constants = S::reread(*this);
      Float factor[N];
      Float power[N];
      for (int k = 0; k < N; ++k) u[k] = S::max_keeping_nan(constants.scale.floor, u[k]);
      S::exp(u, constants.scale, constants.polynomial, factor, power, shifted);
      const Float zero = S::set(0.0f);  // added, so that a banned token gets 0, not -0
      for (int k = 0; k < N; ++k) u[k] = S::fma(factor[k], power[k], zero);
    }
  };

  // exp((x - shift) / T) * (alpha + beta * (x - shift)), for any finite numbers.
  struct General {
    const Scale& scale;  // of reference 0
    Float shift;
    Float alpha;
    Float beta;
    Exp2Monic<S, E::kGradient> polynomial{};
    static constexpr double kUnit = Exp2Monic<S, E::kGradient>::kUnit;

    General(const Scale& scale, float shift, double alpha, double beta)
        : scale(scale),
          shift(S::set(shift)),
          alpha(S::set(saturate(alpha * kUnit))),
          beta(S::set(saturate(beta * kUnit))) {}

    template <int N>
    [[gnu::always_inline]] void operator()(Float (&u)[N], Float (&shifted)[N]) const {
      Float factor[N];
      Float power[N];
      for (int k = 0; k < N; ++k) u[k] = S::max_keeping_nan(scale.floor, S::sub(u[k], shift));
      S::exp(u, scale, polynomial, factor, power, shifted);
      const Float zero = S::set(0.0f);
      for (int k = 0; k < N; ++k) u[k] = S::fma(S::mul(factor[k], power[k]), S::fma(beta, u[k], alpha), zero);
    }
  };

  template <bool kWatch, class Formula, int N>
  [[gnu::always_inline]] static void apply(const Formula& formula, Float (&u)[N], Float& exponents) {
    Float shifted[N];
    formula(u, shifted);
    if constexpr (kWatch)
      for (int k = 0; k < N; ++k) exponents = S::unite(exponents, shifted[k]);
  }

  // The gradient of a row, by Multiple or General. With kStream the stores are non-temporal. With kWatch it returns the
  // exponents of all its probabilities, as S::exp gives them, united bit by bit.
  template <bool kStream, bool kWatch, class Formula>
  static Float gradient(const Element* x, Element* out, int64_t count, const Formula& formula) {
    Float exponents = S::set(kWatch ? 0.0f : kZero);
    const auto element = [&](Float v) {
      Float u[1] = {v};
      apply<kWatch>(formula, u, exponents);
      return u[0];
    };
    const auto few = [&](int64_t begin, int64_t end) {  // at most kWidth, rounded as all others are
      visit_tail<S, E>(x, begin, end, [&](Float v) {
        Element lane[kWidth];
        E::store(lane, element(v));
        for (int64_t k = begin; k < end; ++k) out[k] = lane[k - begin];
      });
    };
    // Up to an aligned address first: a non-temporal store needs one, any other is slow where it crosses a cache line.
    const int64_t aligned = until_aligned(out) < count ? until_aligned(out) : count;
    for (int64_t k = 0; k < aligned; k += kWidth) few(k, aligned - k < kWidth ? aligned : k + kWidth);
    int64_t i = aligned;
    for (; i + kMany * kWidth <= count; i += kMany * kWidth) {
      Float u[kMany];
      for (int k = 0; k < kMany; k += 2) E::load_pair(x + i + k * kWidth, u[k], u[k + 1]);
      apply<kWatch>(formula, u, exponents);
      for (int k = 0; k < kMany; k += 2) {
        if constexpr (kStream)
          E::stream_pair(out + i + k * kWidth, u[k], u[k + 1]);
        else
          E::store_pair(out + i + k * kWidth, u[k], u[k + 1]);
      }
    }
    for (; i + kWidth <= count; i += kWidth) E::store(out + i, element(E::load(x + i)));
    few(i, count);
    return exponents;
  }

  // Elements before the next address that is a multiple of a vector's size.
  static int64_t until_aligned(const Element* p) {
    const auto bytes = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % sizeof(Float));
    return bytes == 0 ? 0 : (static_cast<int64_t>(sizeof(Float)) - bytes) / static_cast<int64_t>(sizeof(Element));
  }

  // Whether a row is finite as it was written. Of probabilities it is, unless the bound of gradient_bound() is large.
  static bool is_finite(Float exponents, double bound, const Element* out, int64_t count) {
    const uint32_t bits = united_bits<S>(exponents);
    if (bits >> (kUpperBit<S> + 1) != bits_above<S>(kUpperBit<S>)) return false;
    if (exponents_of_probabilities<S>(bits) && 4 * bound < E::kOverflow) return true;
    for (int64_t v = 0; v < count; ++v)
      if (!std::isfinite(E::widen(out[v]))) return false;
    return true;
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
    if ((g == 0 && h == 0) || target < 0 || target >= op.vocab) {
      std::memset(out, 0, static_cast<size_t>(op.vocab) * sizeof(Element));
      return true;
    }
    // log p_v = (x_v - shift) / T - residual, with `shift` a float32 so that x_v - shift is nearly exact.
    const double inverse_temperature = 1 / op.temperature;
    const float shift = saturate(op.log_sum_exp[t] * op.temperature);
    const double residual = op.log_sum_exp[t] - static_cast<double>(shift) * inverse_temperature;
    const double factor = std::exp(-residual) * inverse_temperature;
    const double entropy = h == 0 ? 0 : op.entropy[t];
    const double log_prob = static_cast<double>(E::widen(x[target])) * inverse_temperature - op.log_sum_exp[t];
    double at_target = -g * std::expm1(log_prob);
    if (h != 0 && std::isfinite(log_prob)) at_target -= h * std::exp(log_prob) * (log_prob + entropy);
    const double alpha = (h == 0 ? -g : -(g + h * (entropy - residual))) * factor;
    const double beta = h == 0 ? 0 : -h * inverse_temperature * factor;
    Float exponents;
    if (h == 0 && Multiple::suits(inverse_temperature, shift, alpha)) {
      exponents = gradient<kStream, kWatch>(x, out, op.vocab, Multiple(inverse_temperature, shift, alpha));
    } else {
      exponents = gradient<kStream, kWatch>(x, out, op.vocab, General(scale, shift, alpha, beta));
    }
    const double entry = at_target * inverse_temperature + 0.0;
    out[target] = E::narrow(saturate(entry));
    const bool in_range = entry < E::kOverflow && -entry < E::kOverflow;
    const double bound = gradient_bound(g, h, entropy, inverse_temperature);
    return in_range && is_finite(exponents, bound, out, op.vocab);
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

  static int64_t backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
    // A gradient that no cache will hold until it is used need not be fetched first, nor evict what is there.
    const bool stream = S::kStreams && op.grad_logits != op.logits && op.tokens * op.vocab >= kStreamed;
    if (stream)
      return op.watch ? backward_rows<S::kStreams, true>(op, begin, end) : backward_rows<S::kStreams, false>(op, begin, end);
    return op.watch ? backward_rows<false, true>(op, begin, end) : backward_rows<false, false>(op, begin, end);
  }
};

// The correction of the scale is left out where it does not matter.
template <class S, class E>
void forward_rows_of(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  if (scale_is_close(1 / op.temperature)) return ForwardRows<S, E, false>::forward_rows(op, begin, end);
  ForwardRows<S, E, true>::forward_rows(op, begin, end);
}

template <class S>
void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return forward_rows_of<S, F32<S>>(op, begin, end);
    case DType::kBF16:
      return forward_rows_of<S, Bf16<S>>(op, begin, end);
    case DType::kF16:
      return forward_rows_of<S, F16<S>>(op, begin, end);
  }
}

template <class S>
int64_t backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
  switch (op.dtype) {
    case DType::kF32:
      return BackwardRows<S, F32<S>>::backward_rows(op, begin, end);
    case DType::kBF16:
      return BackwardRows<S, Bf16<S>>::backward_rows(op, begin, end);
    case DType::kF16:
      return BackwardRows<S, F16<S>>::backward_rows(op, begin, end);
  }
  return end;
}

// Row by row, while a row is in the cache.
template <class S>
int64_t one_pass_rows(const TokenLogProbsOnePass& op, int64_t begin, int64_t end) {
  const TokenLogProbsBackward backward = backward_of(op);
  int64_t first = end;
  for (int64_t t = begin; t < end && !cancelled(op.forward.cancel); ++t) {
    forward_rows<S>(op.forward, t, t + 1);
    op.grad_log_probs[t] = upstream_of(op, t);
    const bool finite = !upstream_overflows(backward, t) && backward_rows<S>(backward, t, t + 1) != t;
    if (!finite && first == end) first = t;
  }
  return first;
}

template <class S>
void exp_all(const float* x, float* out, int64_t count) {
  const typename S::template Scale<Precision::kFull, true> scale(1.0, 0.0f);
  const Exp2Monic<S, Precision::kFull> polynomial;
  for (int64_t i = 0; i < count; i += S::kWidth) {
    float lane[S::kWidth] = {};
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k) lane[k - i] = x[k];
    const typename S::Float u[1] = {S::max_keeping_nan(scale.floor, S::load(lane))};
    typename S::Float factor[1];
    typename S::Float power[1];
    typename S::Float shifted[1];
    S::exp(u, scale, polynomial, factor, power, shifted);
    S::store(lane, S::mul(factor[0], power[0]));
    for (int64_t k = i; k < count && k < i + S::kWidth; ++k)
      out[k] = static_cast<float>(static_cast<double>(lane[k - i]) * polynomial.kUnit);
  }
}

template <class S>
constexpr TokenLogProbsRows make_rows() {
  return {forward_rows<S>, backward_rows<S>, one_pass_rows<S>, exp_all<S>};
}

}  // namespace
}  // namespace rlvr
