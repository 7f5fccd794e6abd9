// The exponential of the SIMD wrappers with FMA, written once against a wrapper `S`, which derives from FmaExp<S>.
// Included by <set>.h; like the row loops, each instruction set has a copy of its own.
#pragma once

#include <cmath>

#include "cpu/simd/exp2_polynomial.h"

namespace rlvr {

template <class S>
struct FmaExp {
  static constexpr double kFarthest = 65536;  // temperatures, from 0 to a reference

  // The map from x to the exponent of exp((x - reference) / temperature), in base 2. The integer nearest to the
  // reference's exponent is subtracted where the exponent is rounded, which takes no extra operation; `unit`, a
  // factor for sums, is the rest. For references within kFarthest temperatures of 0. With kExact the factor
  // 1/temperature is split in two, so that its rounding does not grow with |x|.
  template <Precision kPrecision, bool kExact>
  struct Scale {
    typename S::Float high;
    typename S::Float low;
    typename S::Float floor;  // the smallest argument: below it the result is 0 anyway
    typename S::Float magic;
    typename S::Table table = S::table();
    double unit;

    [[gnu::always_inline]] Scale(double inverse_temperature, float reference) {
      const double exact = inverse_temperature * kLog2E;
      const auto rounded = static_cast<float>(exact);
      const double exponent = static_cast<double>(reference) * (kExact ? exact : static_cast<double>(rounded));
      const double whole = std::nearbyint(exponent);
      high = S::set(rounded);
      low = S::set(static_cast<float>(exact - static_cast<double>(rounded)));
      floor = S::set(static_cast<float>((whole + kLowestExponent) / exact));
      magic = S::set(kExponentMagic<S::kEntries> - static_cast<float>(whole));
      unit = std::exp2(whole - exponent);
    }
  };

  // factor * power = exp((x - reference) / temperature) / unit, or a multiple of it, by `polynomial`, for an x that is
  // no less than scale.floor, for N vectors stage by stage: each one's dependency chain hides the others' latency. The
  // factor is 2^n with n a multiple of 1/kEntries, 0 at the floor, and `shifted` is kExponentMagic + n; for an n above
  // 127 they mean nothing. NaN gives NaN. The caller multiplies, since an fma can add at the same time.
  template <Precision kPrecision, bool kExact, class Polynomial, class Float, int N>
  [[gnu::always_inline]] static void exp(const Float (&x)[N], const Scale<kPrecision, kExact>& scale,
                                         const Polynomial& polynomial, Float (&factor)[N], Float (&power)[N],
                                         Float (&shifted)[N]) {
    Float f[N];
    for (int k = 0; k < N; ++k) shifted[k] = S::fma(x[k], scale.high, scale.magic);
    for (int k = 0; k < N; ++k) f[k] = S::sub(shifted[k], scale.magic);
    for (int k = 0; k < N; ++k) f[k] = S::fms(x[k], scale.high, f[k]);
    if constexpr (kExact)
      for (int k = 0; k < N; ++k) f[k] = S::fma(x[k], scale.low, f[k]);
    polynomial.evaluate(f, power);
    for (int k = 0; k < N; ++k) factor[k] = S::exp2(shifted[k], scale.table);
  }
};

}  // namespace rlvr
