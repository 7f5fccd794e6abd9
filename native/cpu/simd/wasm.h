// Four floats at a time with the vectors of WebAssembly. Included only by *_wasm.cpp.
//
// There is no operation that is sure to keep a whole product: a product and a sum are each rounded, or with relaxed SIMD, where a
// build may use it, rounded once on processors that can. Results are precise either way.
#pragma once

#include <wasm_simd128.h>

#include <cmath>
#include <cstdint>

#include "cpu/simd/exp2_polynomial.h"

namespace rlvr::wasm {

// What FmaExp in exp.h is to the other wrappers, which see. With kExact x is reduced by multiples of T ln(2) in two parts (Cody and
// Waite), the first of which has few enough bits for its products with exponents below 2^8 to be exact: that of a reference may be
// kFarthest. Else x is the distance from a reference, which the caller subtracts, and is rounded: it is large only where the term is small.
template <class S>
struct SplitExp {
  template <Precision kPrecision, bool kExact>
  struct Scale {
    typename S::Float high;   // log2(e) / T
    typename S::Float first;  // -T ln(2), its upper bits
    typename S::Float second;
    typename S::Float floor;
    typename S::Float magic;
    double unit;

    [[gnu::always_inline]] Scale(double inverse_temperature, float reference) {
      const double exact = inverse_temperature * kLog2E;
      const double exponent = static_cast<double>(reference) * exact;
      const double whole = std::nearbyint(exponent);
      magic = S::set(kExponentMagic<S::kEntries> - static_cast<float>(whole));
      unit = std::exp2(whole - exponent);
      const double step = -1 / exact;
      const auto upper = __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, static_cast<float>(step)) & 0xffffff00u);
      high = S::set(static_cast<float>(exact));
      first = S::set(upper);
      second = S::set(static_cast<float>(step - static_cast<double>(upper)));
      floor = S::set(static_cast<float>((whole + kLowestExponent) / exact));
    }
  };

  template <Precision kPrecision, bool kExact, class Polynomial, class Float, int N>
  [[gnu::always_inline]] static void exp(const Float (&x)[N], const Scale<kPrecision, kExact>& scale,
                                         const Polynomial& polynomial, Float (&factor)[N], Float (&power)[N],
                                         Float (&shifted)[N]) {
    Float f[N];
    for (int k = 0; k < N; ++k) shifted[k] = S::fma(x[k], scale.high, scale.magic);
    if constexpr (kExact && kPrecision == Precision::kFull) {
      Float rest[N];
      for (int k = 0; k < N; ++k) f[k] = S::sub(shifted[k], scale.magic);
      for (int k = 0; k < N; ++k) rest[k] = S::fma(f[k], scale.first, x[k]);
      for (int k = 0; k < N; ++k) f[k] = S::mul(S::fma(f[k], scale.second, rest[k]), scale.high);
    } else {
      for (int k = 0; k < N; ++k) f[k] = S::fma(x[k], scale.high, S::sub(scale.magic, shifted[k]));
    }
    polynomial.evaluate(f, power);
    for (int k = 0; k < N; ++k) factor[k] = S::exp2(shifted[k]);
  }
};

struct Simd : SplitExp<Simd> {
  using Float = v128_t;
  static constexpr int kWidth = 4;
  static constexpr bool kStreams = false;
  static constexpr bool kMasks = false;
  static constexpr bool kCompact = true;
  static constexpr double kFarthest = 88;  // temperatures, 127 in base 2: exponents of terms that are not 0 are below 2^8

  template <class Constants>
  static const Constants& reread(const Constants& constants) {
    return constants;
  }

  static Float set(float x) { return wasm_f32x4_splat(x); }
  static Float load(const float* p) { return wasm_v128_load(p); }
  static void store(float* p, Float x) { wasm_v128_store(p, x); }
  static void transpose(Float (&x)[kWidth]) {
    const Float a = wasm_i32x4_shuffle(x[0], x[1], 0, 4, 1, 5);
    const Float b = wasm_i32x4_shuffle(x[2], x[3], 0, 4, 1, 5);
    const Float c = wasm_i32x4_shuffle(x[0], x[1], 2, 6, 3, 7);
    const Float d = wasm_i32x4_shuffle(x[2], x[3], 2, 6, 3, 7);
    x[0] = wasm_i64x2_shuffle(a, b, 0, 2);
    x[1] = wasm_i64x2_shuffle(a, b, 1, 3);
    x[2] = wasm_i64x2_shuffle(c, d, 0, 2);
    x[3] = wasm_i64x2_shuffle(c, d, 1, 3);
  }
  static Float add(Float a, Float b) { return wasm_f32x4_add(a, b); }
  static Float sub(Float a, Float b) { return wasm_f32x4_sub(a, b); }
  static Float mul(Float a, Float b) { return wasm_f32x4_mul(a, b); }
#ifdef __wasm_relaxed_simd__
  static Float fma(Float a, Float b, Float c) { return __builtin_wasm_relaxed_madd_f32x4(a, b, c); }
#else
  static Float fma(Float a, Float b, Float c) { return add(mul(a, b), c); }
#endif
  // The larger of the two; a NaN in `x` is ignored.
  static Float max_ignoring_nan(Float x, Float so_far) { return wasm_f32x4_pmax(so_far, x); }
  // The larger of the two; a NaN in `x` is kept.
  static Float max_keeping_nan(Float floor, Float x) { return wasm_f32x4_pmax(x, floor); }

  [[gnu::always_inline]] static Float load_bf16(const uint16_t* p) { return wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16); }
  // Eight bfloat16 as their even and their odd elements, which takes no shuffle. store_bf16_pair undoes it.
  [[gnu::always_inline]] static void load_bf16_pair(const uint16_t* p, Float& even, Float& odd) {
    const v128_t bits = wasm_v128_load(p);
    even = wasm_i32x4_shl(bits, 16);
    odd = wasm_v128_and(bits, wasm_i32x4_splat(static_cast<int32_t>(0xffff0000u)));
  }
  static void store_bf16_pair(uint16_t* p, Float even, Float odd) {
    const v128_t upper = wasm_v128_and(round_bf16(odd), wasm_i32x4_splat(static_cast<int32_t>(0xffff0000u)));
    wasm_v128_store(p, wasm_v128_or(upper, wasm_u32x4_shr(round_bf16(even), 16)));
  }
  // To nearest even, in the high half of each lane; x is finite.
  static v128_t round_bf16(Float x) {
    const v128_t odd = wasm_v128_and(wasm_u32x4_shr(x, 16), wasm_i32x4_splat(1));
    return wasm_i32x4_add(x, wasm_i32x4_add(odd, wasm_i32x4_splat(0x7fff)));
  }
  static void store_bf16(uint16_t* p, Float x) { store_narrow(p, wasm_u32x4_shr(round_bf16(x), 16)); }

  // The bits without the sign as a float32 whose exponent is 112 too low, which is exact for subnormal numbers too.
  [[gnu::always_inline]] static Float load_f16(const uint16_t* p) {
    const v128_t bits = wasm_u32x4_load16x4(p);
    const v128_t magnitude = wasm_v128_and(bits, wasm_i32x4_splat(0x7fff));
    const v128_t sign = wasm_i32x4_shl(wasm_v128_xor(bits, magnitude), 16);
    const v128_t value = wasm_f32x4_mul(wasm_i32x4_shl(magnitude, 13), wasm_f32x4_splat(0x1p112f));
    const v128_t infinite = wasm_v128_and(wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x7bff)), wasm_i32x4_splat(0x7f800000));
    return wasm_v128_or(wasm_v128_or(value, infinite), sign);
  }
  // As float_to_f16 in float16.h.
  static void store_f16(uint16_t* p, Float x) {
    const v128_t magnitude = wasm_v128_and(x, wasm_i32x4_splat(0x7fffffff));
    const v128_t sign = wasm_u32x4_shr(wasm_v128_xor(x, magnitude), 16);
    const v128_t odd = wasm_v128_and(wasm_u32x4_shr(magnitude, 13), wasm_i32x4_splat(1));
    const v128_t rounded = wasm_i32x4_add(magnitude, wasm_i32x4_add(odd, wasm_i32x4_splat(0xfff - (112 << 23))));
    const v128_t aligned = wasm_f32x4_add(magnitude, wasm_f32x4_splat(0.5f));
    const v128_t subnormal = wasm_i32x4_sub(aligned, wasm_i32x4_splat(0x3f000000));
    v128_t bits = wasm_u32x4_shr(rounded, 13);
    bits = wasm_v128_bitselect(subnormal, bits, wasm_i32x4_lt(magnitude, wasm_i32x4_splat(0x38800000)));
    bits = wasm_v128_bitselect(wasm_i32x4_splat(0x7c00), bits, wasm_i32x4_ge(magnitude, wasm_i32x4_splat(0x477ff000)));
    bits = wasm_v128_bitselect(wasm_i32x4_splat(0x7e00), bits, wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x7f800000)));
    store_narrow(p, wasm_v128_or(bits, sign));
  }
  static void store_narrow(uint16_t* p, v128_t bits) { wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(bits, bits), 0); }

  static double sum(Float x) {
    const v128_t upper = wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(x, x, 2, 3, 0, 1));
    const v128_t pairs = wasm_f64x2_add(wasm_f64x2_promote_low_f32x4(x), upper);
    return wasm_f64x2_extract_lane(pairs, 0) + wasm_f64x2_extract_lane(pairs, 1);
  }

  // A bit for each lane in which a >= b.
  static uint32_t bits_at_least(Float a, Float b) { return wasm_i32x4_bitmask(wasm_f32x4_ge(a, b)); }

  // The bits that either has.
  static Float unite(Float a, Float b) { return wasm_v128_or(a, b); }

  static constexpr int kEntries = 1;
  static Float exp2(Float shifted) { return wasm_i32x4_shl(shifted, kExponentShift<kEntries>); }
};

}  // namespace rlvr::wasm
