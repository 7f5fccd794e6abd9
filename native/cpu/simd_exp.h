// The exponential of the SIMD wrappers with FMA, written once against a wrapper `S`, which derives from FmaExp<S>.
// Included by simd_<set>.h; like the row loops, each instruction set has a copy of its own.
#pragma once

#include "cpu/exp2_polynomial.h"

namespace rlvr {

template <class S>
struct FmaExp {
  // The factor 1/temperature in base 2, split in two so that its rounding does not grow with |x|; and the smallest
  // argument: below it the result is 0 anyway.
  struct Scale {
    typename S::Float high;
    typename S::Float low;
    typename S::Float floor;
    typename S::Table table = S::table();

    explicit Scale(double inverse_temperature) {
      const double exact = inverse_temperature * kLog2E;
      const auto rounded = static_cast<float>(exact);
      high = S::set(rounded);
      low = S::set(static_cast<float>(exact - static_cast<double>(rounded)));
      floor = S::set(static_cast<float>(kLowestExponent / exact));
    }
  };

  template <class Float>
  static Float clamp(Float x, const Scale& scale) {
    return S::max_keeping_nan(scale.floor, x);
  }

  // exp(x / temperature) = power * factor for a clamped x, for N vectors stage by stage: the chain of one fills the
  // waits of the others. `shifted` is kExponentMagic + log2(factor); above 127 the result means nothing. NaN gives NaN.
  // Without kExactScale the factor 1/temperature is rounded to float32.
  template <Precision kPrecision, bool kExactScale, class Float, int N>
  [[gnu::always_inline]] static void exp_parts(const Float (&x)[N], const Scale& scale, Float (&power)[N],
                                               Float (&factor)[N], Float (&shifted)[N]) {
    constexpr int kEntries = S::entries(kPrecision);
    using Polynomial = Exp2<kEntries, kPrecision>;
    const Float magic = S::set(kExponentMagic<kEntries>);
    Float f[N];
    for (int k = 0; k < N; ++k) shifted[k] = S::fma(x[k], scale.high, magic);
    for (int k = 0; k < N; ++k) f[k] = S::sub(shifted[k], magic);
    for (int k = 0; k < N; ++k) f[k] = S::fms(x[k], scale.high, f[k]);
    if constexpr (kExactScale)
      for (int k = 0; k < N; ++k) f[k] = S::fma(x[k], scale.low, f[k]);
    for (int k = 0; k < N; ++k) power[k] = S::set(Polynomial::kPolynomial[Polynomial::kDegree - 1]);
    for (int d = Polynomial::kDegree - 2; d >= 0; --d)
      for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], f[k], S::set(Polynomial::kPolynomial[d]));
    for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], f[k], S::set(1.0f));
    for (int k = 0; k < N; ++k) factor[k] = S::template exp2<kEntries>(shifted[k], scale.table);
  }
};

}  // namespace rlvr
