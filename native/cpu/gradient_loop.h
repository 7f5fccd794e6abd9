// The loop that writes a row's gradient from its logits: reads an element and writes its gradient to the same place in a second
// array, or over it. Included by backward_rows.h.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/logits_elements.h"

namespace rlvr {
namespace {

template <class S, class E>
struct GradientLoop {
  using Element = typename E::Element;
  using Float = typename S::Float;
  using Scale = typename S::template Scale<E::kGradient, E::kExactGradient>;
  static constexpr int kWidth = S::kWidth;
  static constexpr float kZero = kExponentMagic<S::kEntries> - 127.0f;  // the exponent of 2^-127, as S::exp gives it

  // alpha * exp((x - shift) / T). The factor costs nothing: it is in the polynomial.
  struct Multiple {
    Scale scale;
    Exp2Multiple<S, E::kGradient> polynomial;
    Float shift;  // where S::kCompact

    Multiple(double inverse_temperature, float shift, double alpha)
        : scale(inverse_temperature, S::kCompact ? 0.0f : shift), polynomial(alpha * scale.unit), shift(S::set(shift)) {}

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
      if constexpr (S::kCompact)
        for (int k = 0; k < N; ++k) u[k] = S::sub(u[k], constants.shift);
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
      fetch_ahead<S>(x + i);
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
};

}  // namespace
}  // namespace rlvr
