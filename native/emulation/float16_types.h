// __half and __nv_bfloat16 as storage types with CUDA's conversions: to nearest, ties to even, NaN to 0x7fff; and the
// arithmetic on pairs that the kernels use.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "emulation/vector_types.h"

namespace rlvr::emulation::detail {

inline uint16_t bf16_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float bf16_value(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

inline uint16_t f16_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 rounds to a multiple of 2^-24
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}
inline float f16_value(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

// Rounded to odd: what is rounded to 16 bits afterwards is rounded as if at once.
inline float round_to_odd(double x) {
  const auto nearest = static_cast<float>(x);
  const auto bits = std::bit_cast<uint32_t>(nearest);
  const auto back = static_cast<double>(nearest);
  if (x != x || back == x || (bits & 1u) != 0) return nearest;
  return std::bit_cast<float>(std::fabs(back) > std::fabs(x) ? bits - 1 : bits + 1);
}

// As the _nan intrinsics, or, without keep_nan, as the plain ones, where a NaN operand loses. -0 is less than +0.
template <typename T>
T larger(T a, T b, bool keep_nan) {
  const float x = a;
  const float y = b;
  if (x != x || y != y) {
    const bool all = x != x && y != y;
    return all || keep_nan ? T(NAN) : x != x ? b : a;
  }
  if (x == y) return std::signbit(x) ? b : a;
  return x < y ? b : a;
}

template <typename T>
T multiply_add(T a, T b, T c) {
  return T(round_to_odd(std::fma(static_cast<double>(a), static_cast<double>(b), static_cast<double>(c))));
}

}  // namespace rlvr::emulation::detail

#define RLVR_EMULATION_FLOAT16(NAME, STEM)                                         \
  struct NAME {                                                                    \
    uint16_t bits;                                                                 \
    NAME() = default;                                                              \
    NAME(float x) : bits(rlvr::emulation::detail::STEM##_bits(x)) {}               \
    operator float() const { return rlvr::emulation::detail::STEM##_value(bits); } \
  };                                                                               \
  struct alignas(4) NAME##2 { NAME x, y; };
RLVR_EMULATION_FLOAT16(__half, f16)
RLVR_EMULATION_FLOAT16(__nv_bfloat16, bf16)
#undef RLVR_EMULATION_FLOAT16
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline float __half2float(__half x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __half __float2half_rn(float x) { return __half(x); }
inline __half __float2half(float x) { return __half(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }

inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline short __half_as_short(__half x) { return std::bit_cast<short>(x.bits); }
inline short __bfloat16_as_short(__nv_bfloat16 x) { return std::bit_cast<short>(x.bits); }
inline __half __ushort_as_half(unsigned short bits) { return std::bit_cast<__half>(bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return std::bit_cast<__nv_bfloat16>(bits); }

inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __half2 __float22half2_rn(float2 v) { return __floats2half2_rn(v.x, v.y); }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }

#define RLVR_EMULATION_PAIRS(PAIR)                                     \
  inline PAIR __hmax2(PAIR a, PAIR b) {                                \
    using rlvr::emulation::detail::larger;                             \
    return {larger(a.x, b.x, false), larger(a.y, b.y, false)};         \
  }                                                                    \
  inline PAIR __hmax2_nan(PAIR a, PAIR b) {                            \
    using rlvr::emulation::detail::larger;                             \
    return {larger(a.x, b.x, true), larger(a.y, b.y, true)};           \
  }                                                                    \
  inline PAIR __hfma2(PAIR a, PAIR b, PAIR c) {                        \
    using rlvr::emulation::detail::multiply_add;                       \
    return {multiply_add(a.x, b.x, c.x), multiply_add(a.y, b.y, c.y)}; \
  }
RLVR_EMULATION_PAIRS(__half2)
RLVR_EMULATION_PAIRS(__nv_bfloat162)
#undef RLVR_EMULATION_PAIRS
