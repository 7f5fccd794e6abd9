// Eight floats at a time with AVX2, FMA and F16C. Included only by *_avx2.cpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/exp2_polynomial.h"

namespace rlvr::avx2 {

struct Simd {
  using Float = __m256;
  static constexpr int kWidth = 8;

  static Float set(float x) { return _mm256_set1_ps(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  // The larger of the two; a NaN in `x` is ignored.
  static Float max_ignoring_nan(Float x, Float so_far) { return _mm256_max_ps(x, so_far); }
  // The larger of the two; a NaN in `x` is kept.
  static Float max_keeping_nan(Float floor, Float x) { return _mm256_max_ps(floor, x); }

  static Float load_bf16(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Float load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_bf16(uint16_t* p, Float x) {  // round to nearest even; x is finite
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i high = _mm256_srli_epi32(rounded, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static void store_f16(uint16_t* p, Float x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }

  // The factor 1/temperature in base 2, split in two so that its rounding does not grow with |x|.
  struct Scale {
    Float high;
    Float low;
    Float floor;  // smallest argument: below it the result is 0 anyway
    explicit Scale(double inverse_temperature) {
      const double exact = inverse_temperature * kLog2E;
      const auto rounded = static_cast<float>(exact);
      high = set(rounded);
      low = set(static_cast<float>(exact - static_cast<double>(rounded)));
      floor = set(static_cast<float>(kLowestExponent / exact));
    }
  };

  static Float clamp(Float x, const Scale& scale) { return max_keeping_nan(scale.floor, x); }

  // exp(x / temperature) = power * scale_bits for a clamped x <= about 0, within 2 ulp. NaN gives NaN.
  static void exp_parts(Float x, const Scale& scale, Float& power, Float& factor) {
    const Float magic = set(kExponentMagic);
    const Float shifted = fma(x, scale.high, magic);
    const Float n = sub(shifted, magic);
    const Float f = fma(x, scale.low, _mm256_fmsub_ps(x, scale.high, n));
    Float q = set(kExp2Polynomial[kExp2Degree - 1]);
    for (int k = kExp2Degree - 2; k >= 0; --k) q = fma(q, f, set(kExp2Polynomial[k]));
    power = fma(q, f, set(1.0f));
    factor = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
  }
};

}  // namespace rlvr::avx2
