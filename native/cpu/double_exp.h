// exp of doubles without a branch or a call, so that the compiler vectorises loops over it. Included by files that are
// compiled for one instruction set each; every one has its own copy, so that the linker cannot mix them up.
#pragma once

#include <cstdint>

namespace rlvr {
namespace {

inline double fused(double a, double b, double c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// e^x = factor * (1 + rest), within 1 ulp or two, for x in [-708, 709]; NaN gives NaN.
struct ExpParts {
  double factor;  // a power of 2, 1 for |x| < 0.34
  double rest;    // precise however small it is
};

inline ExpParts exp_parts(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52: rounds to an integer, which the low bits of the sum hold
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 0.6931471803691238;  // ends in zeros, so that its product with such an integer is exact
  constexpr double kLn2Low = 1.9082149292705877e-10;
  // (e^f - 1 - f) / f^2 on |f| <= ln(2)/2, interpolated at Chebyshev's points: 1.3e-17 of e^f.
  const double shifted = fused(x, kLog2E, kMagic);
  const double n = shifted - kMagic;
  const double f = fused(-n, kLn2Low, fused(-n, kLn2High, x));
  // (e^f - 1 - f) / f^2 on |f| <= ln(2)/2, interpolated at Chebyshev's points: 1.3e-17 of e^f. No loop: inside another
  // it would keep that one from being vectorised.
  double tail = fused(2.510038549551032e-08, f, 2.7620088445409746e-07);
  tail = fused(tail, f, 2.7557268459997064e-06);
  tail = fused(tail, f, 2.4801521295954376e-05);
  tail = fused(tail, f, 0.00019841269863053618);
  tail = fused(tail, f, 0.0013888888917213717);
  tail = fused(tail, f, 0.008333333333330062);
  tail = fused(tail, f, 0.04166666666662413);
  tail = fused(tail, f, 0.16666666666666669);
  tail = fused(tail, f, 0.5000000000000001);
  const auto bits = __builtin_bit_cast(uint64_t, shifted);
  return {__builtin_bit_cast(double, (bits + 1023) << 52), fused(tail * f, f, f)};
}

struct VectorMath {
  static double exp(double x) {
    const ExpParts parts = exp_parts(x);
    return fused(parts.factor, parts.rest, parts.factor);
  }
  static double expm1(double x) {
    const ExpParts parts = exp_parts(x);
    return fused(parts.factor, parts.rest, parts.factor - 1);
  }
};

}  // namespace
}  // namespace rlvr
