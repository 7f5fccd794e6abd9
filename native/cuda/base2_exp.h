// exp((x - r) / temperature) of a logit x against a reference r, in one multiply-add and one ex2.
//
// exp(x / T) = 2^(x log2(e) / T), so x's exponent is x * scale - shift with scale = log2(e) / T and shift = r * scale.
// The multiply-add rounds once, after the subtraction, so a shift that was rounded itself (to a whole number, by which
// sums can be moved exactly) is as good as any: whoever needs the true distance takes it off in float64 (above()).
// Of the scale float32 keeps what a float holds. That is off by up to 6e-8, times the distance from the maximum, which
// no 16-bit gradient or log-prob within 1e-6 shows; for float32 logits the rest of it is added (kExact).
#pragma once

#include <cmath>

#include "cuda/platform.h"

namespace rlvr::cuda {

constexpr double kLog2E = 1.4426950408889634074;
constexpr double kLn2 = 0.69314718055994530942;
constexpr float kLeastScale = 1.4e-45f;    // the least positive float
constexpr float kExponentFloor = -150.0f;  // 2^x is 0 here, and from 2^-126 down

// The exponent of x is x * (high + low) - shift. low is positive, or -inf would give NaN, and too small to matter
// where it is not used.
struct Base2 {
  float high;
  float low;
  float shift;
};

// What the kernels need of a temperature.
struct Scale {
  double inverse;  // 1 / temperature
  Base2 base;      // of log2(e) / temperature, without a reference
};

// On the host. Exact scales have a high part that is rounded down.
template <bool kExact>
Scale scale_of(double temperature) {
  constexpr double kMost = 8.5e37;  // 2^126: a power of two above it is a float
  const double inverse = 1 / temperature;
  const double exact = std::fmin(inverse * kLog2E, kMost);
  auto high = static_cast<float>(exact);
  if (kExact && static_cast<double>(high) > exact) high = std::nextafterf(high, 0.0f);
  high = std::fmaxf(high, kLeastScale);
  const auto low = static_cast<float>(exact - static_cast<double>(high));
  return {inverse, {high, std::fmaxf(low, kLeastScale), 0.0f}};
}

// The power of two that is at least `scale` and by which `reference` can be multiplied.
__device__ inline float power_for(float scale, float reference) {
  const int above = static_cast<int>(__float_as_uint(scale) >> 23) + 1;
  const int room = 380 - static_cast<int>(__float_as_uint(fabsf(reference)) >> 23);
  return __uint_as_float(static_cast<unsigned>(above < room ? above : room) << 23);
}

// `scale` with the shift that makes the exponent of `reference` about 0. Where the shift would be so large that its own
// rounding matters, any two logits are so far apart that all but the largest have p = 0: any scale will do that is not
// smaller, and a power of two makes no error.
__device__ inline Base2 with_reference(const Base2& scale, float reference) {
  constexpr float kFar = 1073741824.0f;  // 2^30, where floats are 128 apart
  const float product = reference * scale.high;
  if (fabsf(product) < kFar) return {scale.high, scale.low, rintf(product)};
  const float power = power_for(scale.high, reference);
  return {power, kLeastScale, reference * power};
}

// The exponent of x, exactly.
template <bool kExact>
__device__ double above(const Base2& base, float x) {
  const double scale = static_cast<double>(base.high) + (kExact ? static_cast<double>(base.low) : 0.0);
  return static_cast<double>(x) * scale - static_cast<double>(base.shift);
}

template <bool kExact>
__device__ __forceinline__ float exponent(const Base2& base, float x) {
  const float t = fmaf(x, base.high, -base.shift);
  return kExact ? fmaf(x, base.low, t) : t;
}

// 2^n for a whole number n from -126 to 127.
__device__ __forceinline__ float power_of_2(float n) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: n comes into the low bits
  return __uint_as_float((__float_as_uint(n + kMagic) << 23) + 0x3f800000u);
}

}  // namespace rlvr::cuda
