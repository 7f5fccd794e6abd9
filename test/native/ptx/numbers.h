// Arithmetic of PTX instructions that C++ has no operator for. Integers wrap; NaN, zeros and shifts are as PTX says.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "emulation/cuda_emulation.h"

namespace rlvr::ptx {

// What a register holds that was never written: NaN as a number, and far outside of anything as an address.
constexpr uint64_t kUndefined = ~uint64_t{0};

// ---- integers

template <class T>
using Unsigned = std::make_unsigned_t<T>;

// As 64 bits with the sign, whose low bits are right whatever is done with them.
template <class T>
uint64_t wide(T x) {
  return static_cast<uint64_t>(static_cast<int64_t>(x));
}
template <class T>
T add(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a + b;
  else
    return static_cast<T>(wide(a) + wide(b));
}
template <class T>
T multiply_high(T a, T b) {
  return static_cast<T>(static_cast<__int128>(a) * static_cast<__int128>(b) >> (8 * sizeof(T)));
}
inline int32_t multiply_wide(int16_t a, int16_t b) { return int32_t{a} * b; }
inline uint32_t multiply_wide(uint16_t a, uint16_t b) { return uint32_t{a} * b; }
inline int64_t multiply_wide(int32_t a, int32_t b) { return int64_t{a} * b; }
inline uint64_t multiply_wide(uint32_t a, uint32_t b) { return uint64_t{a} * b; }

template <class T>
Unsigned<T> magnitude(T a) {
  return static_cast<Unsigned<T>>(a < 0 ? 0u - wide(a) : wide(a));
}

// ---- bits

// Shifts by the width or more leave nothing, or the sign.
template <class T>
T shl(T a, uint32_t n) {
  return n < 8 * sizeof(T) ? static_cast<T>(uint64_t{a} << n) : T{0};
}
template <class T>
T shr(T a, uint32_t n) {
  constexpr uint32_t kMost = 8 * sizeof(T) - 1;
  if (n > kMost) return a < 0 ? static_cast<T>(-1) : T{0};
  return static_cast<T>(a >> n);
}
// Of the 64 bits high:low; n up to 32.
inline uint32_t shf_l(uint32_t low, uint32_t high, uint32_t n) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) << n >> 32);
}
inline uint32_t shf_r(uint32_t low, uint32_t high, uint32_t n) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> n);
}

// Each of the four low digits of `selector` chooses one of eight bytes, or, with its top bit, that byte's sign.
inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t digit = selector >> (4 * i);
    const auto byte = static_cast<uint8_t>(bytes >> (8 * (digit & 7u)));
    const uint8_t chosen = (digit & 8u) == 0 ? byte : byte >= 0x80u ? 0xffu : 0u;
    result |= uint32_t{chosen} << (8 * i);
  }
  return result;
}

template <class T>
T bfe(T a, uint32_t position, uint32_t length) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  const uint32_t from = position & 0xffu;
  const uint32_t count = length & 0xffu;
  if (count == 0) return 0;
  if (from >= kBits) return shr(a, kBits);
  const uint32_t end = from + count < kBits ? from + count : kBits;
  using Bits = std::make_unsigned_t<T>;
  const auto at_top = static_cast<T>(shl(static_cast<Bits>(a), kBits - end));
  return shr(at_top, kBits - (end - from));
}
template <class T>
T bfi(T field, T into, uint32_t position, uint32_t length) {
  const T ones = static_cast<T>(~shl(static_cast<T>(~T{0}), length & 0xffu));
  const T mask = shl(ones, position & 0xffu);
  return static_cast<T>((into & ~mask) | (shl(field, position & 0xffu) & mask));
}
inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t chosen = ((i & 4u) != 0 ? a : ~a) & ((i & 2u) != 0 ? b : ~b) & ((i & 1u) != 0 ? c : ~c);
    if ((table >> i & 1u) != 0) result |= chosen;
  }
  return result;
}
template <class T>
T brev(T a) {
  T result = 0;
  for (size_t i = 0; i < 8 * sizeof(T); ++i) result = static_cast<T>(result << 1 | (a >> i & 1u));
  return result;
}

// ---- floats

inline float ftz(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
inline double ftz(double x) { return x; }

template <class T>
constexpr bool kPair = std::is_same_v<T, __half2> || std::is_same_v<T, __nv_bfloat162>;
template <class T>
constexpr bool kHalf = std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

template <class T>
T canonical_nan() {
  if constexpr (sizeof(T) == 4)
    return std::bit_cast<float>(0x7fffffffu);
  else
    return std::bit_cast<double>(uint64_t{0x7fffffffffffffffu});
}
// -0 is less than +0.
template <class T>
T larger_number(T a, T b) {
  if (a == b && std::signbit(static_cast<double>(a))) return b;
  return a < b ? b : a;
}
template <class T>
T larger(T a, T b, bool keep_nan) {
  if constexpr (kPair<T>) {
    return {larger(a.x, b.x, keep_nan), larger(a.y, b.y, keep_nan)};
  } else if constexpr (kHalf<T>) {
    return emulation::detail::larger(a, b, keep_nan);
  } else {
    if (a == a && b == b) return larger_number(a, b);
    if (keep_nan || (a != a && b != b)) return canonical_nan<T>();
    return a == a ? a : b;
  }
}
template <class T>
T negated(T a) {
  if constexpr (kPair<T>)
    return {negated(a.x), negated(a.y)};
  else
    return T(-a);
}

template <class T>
T max(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return a < b ? b : a;
  else
    return larger(a, b, false);
}
template <class T>
T min(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return b < a ? b : a;
  else
    return negated(larger(negated(a), negated(b), false));
}
template <class T>
T max_nan(T a, T b) {
  return larger(a, b, true);
}
template <class T>
T min_nan(T a, T b) {
  return negated(larger(negated(a), negated(b), true));
}

inline __half fma_rn(__half a, __half b, __half c) { return emulation::detail::multiply_add(a, b, c); }
inline __nv_bfloat16 fma_rn(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return emulation::detail::multiply_add(a, b, c);
}
template <class T>
T fma_rn(T a, T b, T c) {
  return {fma_rn(a.x, b.x, c.x), fma_rn(a.y, b.y, c.y)};
}

// A seed for Newton's method: only the upper half of it is given, and PTX promises no more than 2^-20.
inline double rcp_approx_ftz(double x) {
  const double error = (std::bit_cast<uint64_t>(x) >> 40 & 1u) != 0 ? 0x1p-21 : -0x1p-21;
  const double exact = 1 / x;
  const bool ends = exact == 0 || exact != exact || std::isinf(exact);
  const double result = ends ? exact : exact * (1 + error);
  if (std::fabs(result) < std::numeric_limits<double>::min()) return std::copysign(0.0, x);
  return std::bit_cast<double>(std::bit_cast<uint64_t>(result) & 0xffffffff00000000u);
}

inline std::pair<bool, bool> with_opposite(bool x) { return {x, !x}; }

inline bool is_finite(double x) { return std::isfinite(x); }
inline bool is_infinite(double x) { return std::isinf(x); }
inline bool is_number(double x) { return x == x; }
inline bool is_notanumber(double x) { return x != x; }

// ---- conversions

template <class T>
T round_rni(T x) {
  return std::nearbyint(x);
}
template <class T>
T round_rzi(T x) {
  return std::trunc(x);
}
template <class T>
T round_rmi(T x) {
  return std::floor(x);
}
template <class T>
T round_rpi(T x) {
  return std::ceil(x);
}

// The nearest there is. NaN becomes 0, or, in 64 bits, the integer with the top bit only.
template <class T, class F>
T to_integer(F whole) {
  using Limits = std::numeric_limits<T>;
  if (whole != whole) return sizeof(T) == 8 ? static_cast<T>(uint64_t{1} << 63) : T{0};
  const F beyond = std::ldexp(F{1}, Limits::digits);
  if (whole >= beyond) return Limits::max();
  if (whole < (Limits::is_signed ? -beyond : F{0})) return Limits::min();
  return static_cast<T>(whole);
}

}  // namespace rlvr::ptx
