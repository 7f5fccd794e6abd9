// The exponential of the SIMD wrappers with FMA, written once against a wrapper `S`. Included by simd_<set>.h; like the row
// loops, each instruction set has a copy of its own.
#pragma once

#include "cpu/exp2_polynomial.h"

namespace rlvr {
namespace {

// The factor 1/temperature in base 2, split in two so that its rounding does not grow with |x|; and the smallest argument:
// below it the result is 0 anyway.
struct SplitScale {
  float high;
  float low;
  float floor;

  explicit SplitScale(double inverse_temperature) {
    const double exact = inverse_temperature * kLog2E;
    high = static_cast<float>(exact);
    low = static_cast<float>(exact - static_cast<double>(high));
    floor = static_cast<float>(kLowestExponent / exact);
  }
};

// exp(x / temperature) = power * factor for a clamped x, as precise as Exp2, for N vectors stage by stage: the chain of one
// fills the waits of the others. `shifted` is kExponentMagic + log2(factor); above 127 the result means nothing.
// NaN gives NaN.
template <class S, class Exp2, int N>
inline void split_exp(const typename S::Float (&x)[N], const typename S::Scale& scale, typename S::Float (&power)[N],
                      typename S::Float (&factor)[N], typename S::Float (&shifted)[N]) {
  const typename S::Float magic = S::set(kExponentMagic);
  typename S::Float f[N];
  for (int k = 0; k < N; ++k) shifted[k] = S::fma(x[k], scale.high, magic);
  for (int k = 0; k < N; ++k) f[k] = S::sub(shifted[k], magic);
  for (int k = 0; k < N; ++k) f[k] = S::fms(x[k], scale.high, f[k]);
  if constexpr (Exp2::kExactScale)
    for (int k = 0; k < N; ++k) f[k] = S::fma(x[k], scale.low, f[k]);
  for (int k = 0; k < N; ++k) power[k] = S::set(Exp2::kPolynomial[Exp2::kDegree - 1]);
  for (int d = Exp2::kDegree - 2; d >= 0; --d)
    for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], f[k], S::set(Exp2::kPolynomial[d]));
  for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], f[k], S::set(1.0f));
  for (int k = 0; k < N; ++k) factor[k] = S::to_exponent(shifted[k]);
}

}  // namespace
}  // namespace rlvr
