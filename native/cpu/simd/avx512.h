// Sixteen floats at a time with AVX-512 (F, BW, DQ, VL). Included only by *_avx512.cpp. What the functions promise is
// documented in avx2.h. Width is not the only gain: 32 registers hold the constants and four vectors in flight.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "cpu/simd/exp.h"

namespace rlvr::avx512 {

struct Simd : FmaExp<Simd> {
  using Float = __m512;
  static constexpr int kWidth = 16;
  static constexpr bool kStreams = true;
  static constexpr bool kMasks = true;
  static constexpr bool kCompact = false;

  template <class Constants>
  static const Constants& reread(const Constants& constants) {
    return constants;
  }

  static Float set(float x) { return _mm512_set1_ps(x); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  // The first n of a vector, the others -inf. What a mask leaves out is not touched.
  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Float load_first(const float* p, int n) { return _mm512_mask_loadu_ps(set(-INFINITY), first(n), p); }
  static Float load_first_bf16(const uint16_t* p, int n) {
    const __m256i bits = _mm256_mask_loadu_epi16(_mm256_set1_epi16(static_cast<short>(0xff80)), first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Float load_first_f16(const uint16_t* p, int n) {
    return _mm512_cvtph_ps(_mm256_mask_loadu_epi16(_mm256_set1_epi16(static_cast<short>(0xfc00)), first(n), p));
  }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static void stream(float* p, Float x) { _mm512_stream_ps(p, x); }
  static void fence() { _mm_sfence(); }
  static void transpose(Float (&x)[kWidth]) {
    Float pairs[kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
      pairs[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    Float fours[kWidth];  // fours[4g + c]: columns c, c + 4, c + 8, c + 12 of rows 4g to 4g + 3
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      const int at = i / 4 * 4 + i % 4 / 2;
      const __m512d a = _mm512_castps_pd(pairs[at]);
      const __m512d b = _mm512_castps_pd(pairs[at + 2]);
      fours[i] = _mm512_castpd_ps(i % 2 == 0 ? _mm512_unpacklo_pd(a, b) : _mm512_unpackhi_pd(a, b));
    }
    constexpr int kEven = 0x88;  // lanes 0 and 2 of either
    constexpr int kOdd = 0xdd;
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const Float even_upper = _mm512_shuffle_f32x4(fours[c], fours[4 + c], kEven);
      const Float even_lower = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], kEven);
      const Float odd_upper = _mm512_shuffle_f32x4(fours[c], fours[4 + c], kOdd);
      const Float odd_lower = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], kOdd);
      x[c] = _mm512_shuffle_f32x4(even_upper, even_lower, kEven);
      x[8 + c] = _mm512_shuffle_f32x4(even_upper, even_lower, kOdd);
      x[4 + c] = _mm512_shuffle_f32x4(odd_upper, odd_lower, kEven);
      x[12 + c] = _mm512_shuffle_f32x4(odd_upper, odd_lower, kOdd);
    }
  }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float fms(Float a, Float b, Float c) { return _mm512_fmsub_ps(a, b, c); }
  static Float max_ignoring_nan(Float x, Float so_far) { return _mm512_max_ps(x, so_far); }
  static Float max_keeping_nan(Float floor, Float x) { return _mm512_max_ps(floor, x); }

  static Float load_bf16(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static void load_bf16_pair(const uint16_t* p, Float& even, Float& odd) {
    const __m512i bits = _mm512_loadu_si512(p);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-65536)));
  }
  static __m512i bf16_pair(Float even, Float odd) {
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(round_bf16(even), 16), round_bf16(odd));
  }
  static void store_bf16_pair(uint16_t* p, Float even, Float odd) { _mm512_storeu_si512(p, bf16_pair(even, odd)); }
  static void stream_bf16_pair(uint16_t* p, Float even, Float odd) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bf16_pair(even, odd));
  }
  static Float load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512i round_bf16(Float x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  }
  static void store_bf16(uint16_t* p, Float x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(x), 16)));
  }
  static void store_f16(uint16_t* p, Float x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static void stream_f16_pair(uint16_t* p, Float a, Float b) {
    const __m256i low = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT);
    const __m256i high = _mm512_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
  }

  static double sum(Float x) {
    const __m256 high = _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(x), 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(high)));
  }

  static uint32_t bits_at_least(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

  static Float unite(Float a, Float b) { return _mm512_or_ps(a, b); }

  static constexpr int kEntries = 16;
  using Table = __m512i;
  static Table table() {
    static constexpr Exp2Table<kEntries> kTable;
    return _mm512_loadu_si512(kTable.entry);
  }
  static Float exp2(Float shifted, Table table) {
    const __m512i bits = _mm512_castps_si512(shifted);
    const __m512i exponent = _mm512_slli_epi32(bits, kExponentShift<kEntries>);
    return _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_permutexvar_epi32(bits, table)));
  }
};

}  // namespace rlvr::avx512
