// Eight floats at a time with AVX2, FMA and F16C. Included only by *_avx2.cpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/exp.h"

namespace rlvr::avx2 {

struct Simd : FmaExp<Simd> {
  using Float = __m256;
  static constexpr int kWidth = 8;
  static constexpr bool kStreams = true;
  static constexpr bool kMasks = false;
  static constexpr bool kCompact = false;

  // The same constants, of which the compiler does not know that they are. It would keep them in registers, which are
  // too few, and the sums of a loop in memory, which costs far more than to read a constant from the first cache.
  template <class Constants>
  [[gnu::always_inline]] static const Constants& reread(const Constants& constants) {
#ifdef _MSC_VER
    return constants;
#else
    const Constants* address = &constants;
    asm volatile("" : "+r"(address));
    return *address;
#endif
  }

  static Float set(float x) { return _mm256_set1_ps(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  // Non-temporal, to a multiple of 32; fence() must follow before other threads read it.
  static void stream(float* p, Float x) { _mm256_stream_ps(p, x); }
  static void fence() { _mm_sfence(); }
  // Lane k of x[i] changes places with lane i of x[k].
  static void transpose(Float (&x)[kWidth]) {
    Float pairs[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
      pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    Float fours[kWidth];  // fours[4g + c]: columns c and c + 4 of rows 4g to 4g + 3
#pragma GCC unroll 8
    for (int i = 0; i < kWidth; ++i) {
      const int at = i / 4 * 4 + i % 4 / 2;
      const __m256d a = _mm256_castps_pd(pairs[at]);
      const __m256d b = _mm256_castps_pd(pairs[at + 2]);
      fours[i] = _mm256_castpd_ps(i % 2 == 0 ? _mm256_unpacklo_pd(a, b) : _mm256_unpackhi_pd(a, b));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      x[c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x20);
      x[4 + c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x31);
    }
  }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float fms(Float a, Float b, Float c) { return _mm256_fmsub_ps(a, b, c); }
  // The larger of the two; a NaN in `x` is ignored.
  static Float max_ignoring_nan(Float x, Float so_far) { return _mm256_max_ps(x, so_far); }
  // The larger of the two; a NaN in `x` is kept.
  static Float max_keeping_nan(Float floor, Float x) { return _mm256_max_ps(floor, x); }

  static Float load_bf16(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  // Sixteen bfloat16 as their even and their odd elements, which takes no shuffle. store_bf16_pair undoes it.
  static void load_bf16_pair(const uint16_t* p, Float& even, Float& odd) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    even = _mm256_castsi256_ps(_mm256_shuffle_epi8(bits, low_halves_up()));
    odd = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(-65536)));
  }
  static __m256i bf16_pair(Float even, Float odd) {
    return _mm256_blend_epi16(_mm256_shuffle_epi8(round_bf16(even), high_halves_down()), round_bf16(odd), 0xaa);
  }
  // Shifts by 16 bits as shuffles of bytes: the ports of shifts are also those of fma, which are the limit here.
  static __m256i low_halves_up() {
    return _mm256_broadcastsi128_si256(_mm_setr_epi8(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13));
  }
  static __m256i high_halves_down() {
    return _mm256_broadcastsi128_si256(_mm_setr_epi8(2, 3, -1, -1, 6, 7, -1, -1, 10, 11, -1, -1, 14, 15, -1, -1));
  }
  static void store_bf16_pair(uint16_t* p, Float even, Float odd) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bf16_pair(even, odd));
  }
  static void stream_bf16_pair(uint16_t* p, Float even, Float odd) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), bf16_pair(even, odd));
  }
  static Float load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // To nearest, in the high half of each lane. What lies halfway goes away from 0: x is approximate, so that halfway
  // says nothing about the exact value, and the nearest even number would take three more instructions.
  static __m256i round_bf16(Float x) {
    return _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(0x8000));
  }
  static void store_bf16(uint16_t* p, Float x) {
    const __m256i high = _mm256_srli_epi32(round_bf16(x), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static void store_f16(uint16_t* p, Float x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static void stream_f16_pair(uint16_t* p, Float a, Float b) {
    const __m128i low = _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT);
    const __m128i high = _mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), _mm256_set_m128i(high, low));
  }

  // In double.
  static double sum(Float x) {
    const __m256d four =
        _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }

  // A bit for each lane in which a >= b.
  static uint32_t bits_at_least(Float a, Float b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  }

  // The bits that either has.
  static Float unite(Float a, Float b) { return _mm256_or_ps(a, b); }

  // As many entries as a shuffle within 128 bits can reach: it takes a cycle on every processor, and no port of fma's.
  static constexpr int kEntries = 4;
  using Table = __m256;
  static Table table() {
    static constexpr Exp2Table<kEntries> kTable;
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kTable.entry));
    return _mm256_castsi256_ps(_mm256_broadcastsi128_si256(entries));
  }
  // 2^x of kExponentMagic + x, a multiple of 1/kEntries.
  static Float exp2(Float shifted, Table table) {
    const __m256i bits = _mm256_castps_si256(shifted);
    const __m256i exponent = _mm256_slli_epi32(bits, kExponentShift<kEntries>);
    const __m256i fraction = _mm256_castps_si256(_mm256_permutevar_ps(table, bits));
    return _mm256_castsi256_ps(_mm256_add_epi32(exponent, fraction));
  }
};

}  // namespace rlvr::avx2
