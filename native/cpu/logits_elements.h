// The element types of logits, as vectors of a SIMD wrapper `S`. A pair of vectors holds 2 * kWidth consecutive
// elements in an order specific to the type, the same for loading and storing. Included by token_log_probs_rows.h.
// Where S::kMasks, the first elements of a vector can be loaded, the others being -inf. Where S::kStreams, a pair can
// also be stored with non-temporal stores, to an address that is a multiple of a vector's size. Where S::kCompact, there is less code:
// one version of a loop stands for those that save an operation, and S::exp takes distances from a reference, not the reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "cpu/float16.h"
#include "cpu/prefetch.h"
#include "cpu/simd/exp2_polynomial.h"

namespace rlvr {
namespace {

template <class S>
struct F32 {
  using Element = float;
  static constexpr Precision kSums = Precision::kFull;
  static constexpr Precision kGradient = Precision::kFull;
  static constexpr bool kExactGradient = true;  // the factor 1/temperature is not rounded
  static typename S::Float load(const float* p) { return S::load(p); }
  static typename S::Float load_first(const float* p, int n) { return S::load_first(p, n); }
  static void store(float* p, typename S::Float x) { S::store(p, x); }
  static void load_pair(const float* p, typename S::Float& a, typename S::Float& b) {
    a = S::load(p);
    b = S::load(p + S::kWidth);
  }
  static void store_pair(float* p, typename S::Float a, typename S::Float b) {
    S::store(p, a);
    S::store(p + S::kWidth, b);
  }
  static void stream_pair(float* p, typename S::Float a, typename S::Float b) {
    S::stream(p, a);
    S::stream(p + S::kWidth, b);
  }
  static float widen(float x) { return x; }
  static float narrow(float x) { return x; }
  static constexpr double kOverflow = 3.4028235677973366e38;  // the first number that is rounded to infinity
};

template <class S>
struct Bf16 {
  using Element = uint16_t;
  static constexpr Precision kSums = Precision::kClose;
  static constexpr Precision kGradient = Precision::kRough;
  static constexpr bool kExactGradient = false;
  static typename S::Float load(const uint16_t* p) { return S::load_bf16(p); }
  static typename S::Float load_first(const uint16_t* p, int n) { return S::load_first_bf16(p, n); }
  static void store(uint16_t* p, typename S::Float x) { S::store_bf16(p, x); }
  static void load_pair(const uint16_t* p, typename S::Float& a, typename S::Float& b) { S::load_bf16_pair(p, a, b); }
  static void store_pair(uint16_t* p, typename S::Float a, typename S::Float b) { S::store_bf16_pair(p, a, b); }
  static void stream_pair(uint16_t* p, typename S::Float a, typename S::Float b) { S::stream_bf16_pair(p, a, b); }
  static float widen(uint16_t x) { return bf16_to_float(x); }
  static uint16_t narrow(float x) { return float_to_bf16(x); }
  static constexpr double kOverflow = 3.3961775292304957e38;
};

template <class S>
struct F16 {
  using Element = uint16_t;
  static constexpr Precision kSums = Precision::kClose;
  static constexpr Precision kGradient = Precision::kClose;
  static constexpr bool kExactGradient = false;
  static typename S::Float load(const uint16_t* p) { return S::load_f16(p); }
  static typename S::Float load_first(const uint16_t* p, int n) { return S::load_first_f16(p, n); }
  static void store(uint16_t* p, typename S::Float x) { S::store_f16(p, x); }
  static void load_pair(const uint16_t* p, typename S::Float& a, typename S::Float& b) {
    a = S::load_f16(p);
    b = S::load_f16(p + S::kWidth);
  }
  static void store_pair(uint16_t* p, typename S::Float a, typename S::Float b) {
    S::store_f16(p, a);
    S::store_f16(p + S::kWidth, b);
  }
  static void stream_pair(uint16_t* p, typename S::Float a, typename S::Float b) { S::stream_f16_pair(p, a, b); }
  static float widen(uint16_t x) { return f16_to_float(x); }
  static uint16_t narrow(float x) { return float_to_f16(x); }
  static constexpr double kOverflow = 65520;
};

constexpr int kMany = 4;  // vectors at a time: one alone would wait on its own dependency chain
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Prefetches to L1 what a loop that is at `x` will read a page from there: kMany vectors. The hardware prefetcher covers all but
// the first lines of a page, for which the arithmetic would wait.
template <class S, class Element>
[[gnu::always_inline]] inline void fetch_ahead(const Element* x) {
  const auto ahead = reinterpret_cast<uintptr_t>(x) + 4096;
  for (size_t line = 0; line < kMany * S::kWidth * sizeof(Element); line += 64)
    prefetch(reinterpret_cast<const void*>(ahead + line));
}

// Calls visit(vector) with elements [begin, count), fewer than a vector holds, the others -inf.
template <class S, class E, class Visit>
void visit_tail(const typename E::Element* x, int64_t begin, int64_t count, Visit visit) {
  if (begin >= count) return;
  if constexpr (S::kMasks) {
    visit(E::load_first(x + begin, static_cast<int>(count - begin)));
  } else {
    float padded[S::kWidth];
    for (float& lane : padded) lane = -kInfinity;
    for (int64_t i = begin; i < count; ++i) padded[i - begin] = E::widen(x[i]);
    visit(S::load(padded));
  }
}

// The exponents that S::exp gives for numbers from 2^-127 to 2^127, united bit by bit, have but 8 bits, in units of
// 1/kEntries. A NaN and a larger number leave others.
template <class S>
constexpr int kUpperBit = 7 + kExponentBits<S::kEntries>;  // the upper of those

// The bits above `bit` of any such exponent.
template <class S>
constexpr uint32_t bits_above(int bit) {
  return __builtin_bit_cast(uint32_t, kExponentMagic<S::kEntries> - 127.0f) >> (bit + 1);
}

template <class S>
uint32_t united_bits(typename S::Float exponents) {
  float lane[S::kWidth];
  S::store(lane, exponents);
  uint32_t bits = 0;
  for (float one : lane) bits |= __builtin_bit_cast(uint32_t, one);
  return bits;
}

// Whether all numbers with these united exponents are about 1 or less.
template <class S>
bool exponents_of_probabilities(uint32_t bits) {
  return bits >> kUpperBit<S> == bits_above<S>(kUpperBit<S> - 1);
}

// The nearest finite float32: an upstream gradient beyond its range must not meet p = 0 as infinity.
inline float saturate(double x) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(x > kLargest ? kLargest : x < -kLargest ? -kLargest : x);
}

}  // namespace
}  // namespace rlvr
