// The three element types of a [T, V] array, in 32-bit words (one float32, or a packed pair of 16 bits), vectors of 16
// bytes, and chunks of several vectors; and how a row is split into them.
#pragma once

#include <cmath>
#include <cstring>

#include "cuda/platform.h"

namespace rlvr::cuda {

constexpr int kRowThreads = 256;  // of the blocks that work on rows
constexpr int kResident = 3;      // of these, on a multiprocessor, for which the registers must suffice
constexpr float kNegativeInfinity = -INFINITY;

struct F32 {
  using Element = float;
  static constexpr int kPerWord = 1;
  static constexpr bool kExactScale = true;         // see base2_exp.h
  static constexpr uint32_t kBanned = 0xff800000u;  // a word of -inf
  __device__ static float widen(float x) { return x; }
  __device__ static float narrow(float x) { return x; }
  __device__ static void unpack(uint32_t word, float (&x)[1]) { x[0] = __uint_as_float(word); }
  __device__ static uint32_t pack(const float (&x)[1]) { return __float_as_uint(x[0]); }
  __device__ static uint32_t word_of(float x) { return __float_as_uint(x); }
  // Lane by lane. NaN if one of the two is NaN.
  __device__ static uint32_t larger(uint32_t a, uint32_t b) {
    return __float_as_uint(max_keeping_nan(__uint_as_float(a), __uint_as_float(b)));
  }
  // `seen`, or NaN if x is not finite. seen begins as 0.
  __device__ static uint32_t watch(uint32_t x, uint32_t seen) {
    return __float_as_uint(fmaf(__uint_as_float(x), 0.0f, __uint_as_float(seen)));
  }
  __device__ static bool all_finite(uint32_t seen) { return seen == 0; }
};

// Two elements to a 32-bit word, the first in the low half.
template <class Half>
struct Packed {
  using Element = uint16_t;
  using Pair = typename Half::Pair;
  static constexpr int kPerWord = 2;
  static constexpr bool kExactScale = false;
  static constexpr uint32_t kBanned = Half::kBanned * 0x10001u;
  __device__ static float widen(uint16_t bits) { return Half::to_float(bits); }
  __device__ static uint16_t narrow(float x) { return Half::from_float(x); }
  __device__ static void unpack(uint32_t word, float (&x)[2]) { Half::to_floats(word, x[0], x[1]); }
  __device__ static uint32_t pack(const float (&x)[2]) { return bits_of(Half::from_floats(x[0], x[1])); }
  __device__ static uint32_t word_of(uint16_t x) { return x | Half::kBanned << 16; }
  __device__ static uint32_t larger(uint32_t a, uint32_t b) { return bits_of(__hmax2_nan(pair_of(a), pair_of(b))); }
  __device__ static uint32_t watch(uint32_t x, uint32_t seen) {
    return bits_of(__hfma2(pair_of(x), Half::from_floats(0.0f, 0.0f), pair_of(seen)));
  }
  __device__ static bool all_finite(uint32_t seen) { return seen == 0; }

 private:
  __device__ static Pair pair_of(uint32_t bits) {
    Pair pair;
    memcpy(&pair, &bits, sizeof pair);
    return pair;
  }
  __device__ static uint32_t bits_of(Pair pair) {
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
  }
};

struct Bf16Bits {
  using Pair = __nv_bfloat162;
  static constexpr uint32_t kBanned = 0xff80u;
  __device__ static float to_float(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
  __device__ static uint16_t from_float(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
  __device__ static void to_floats(uint32_t word, float& low, float& high) {
    low = __uint_as_float(word << 16);
    high = __uint_as_float(word & 0xffff0000u);
  }
  __device__ static Pair from_floats(float low, float high) { return __floats2bfloat162_rn(low, high); }
};

struct F16Bits {
  using Pair = __half2;
  static constexpr uint32_t kBanned = 0xfc00u;
  __device__ static float to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  __device__ static uint16_t from_float(float x) { return __half_as_ushort(__float2half_rn(x)); }
  __device__ static void to_floats(uint32_t word, float& low, float& high) {
    low = to_float(static_cast<uint16_t>(word));
    high = to_float(static_cast<uint16_t>(word >> 16));
  }
  __device__ static Pair from_floats(float low, float high) { return __floats2half2_rn(low, high); }
};

using Bf16 = Packed<Bf16Bits>;
using F16 = Packed<F16Bits>;

template <class E>
constexpr int kPerVector = 4 * E::kPerWord;

// What a thread holds of a row at a time: kVectors vectors, kRowThreads apart, so that the block's lie together.
template <class E, int kVectors>
struct Chunk {
  static constexpr int kWords = 4 * kVectors;
  static constexpr int kElements = kVectors * kPerVector<E>;
  static constexpr int kStride = kVectors * kRowThreads;  // vectors from a block's chunk to its next

  uint4 vectors[kVectors];

  __device__ __forceinline__ uint32_t word(int i) const { return (&vectors[i / 4].x)[i % 4]; }
  __device__ __forceinline__ uint32_t& word(int i) { return (&vectors[i / 4].x)[i % 4]; }

  // `first` is the thread's own first vector.
  template <Reads kReads = Reads::kOnce>
  __device__ __forceinline__ void load(const uint4* first) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) vectors[k] = load_vector<kReads>(first + k * kRowThreads);
  }

  // As load(), where only `left` vectors from `first` on are the row's. The rest is -inf.
  template <Reads kReads = Reads::kOnce>
  __device__ __forceinline__ void load_within(const uint4* first, int left) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
      vectors[k] = k * kRowThreads < left ? load_vector<kReads>(first + k * kRowThreads)
                                          : uint4{E::kBanned, E::kBanned, E::kBanned, E::kBanned};
  }

  __device__ __forceinline__ void store(uint4* first) const {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) store_streaming(first + k * kRowThreads, vectors[k]);
  }

  __device__ __forceinline__ void store_within(uint4* first, int left) const {
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
      if (k * kRowThreads < left) store_streaming(first + k * kRowThreads, vectors[k]);
  }

  // The largest element; NaN if one is.
  __device__ __forceinline__ float largest() const {
    uint32_t best[4] = {word(0), word(1), word(2), word(3)};
#pragma unroll
    for (int i = 4; i < kWords; ++i) best[i % 4] = E::larger(best[i % 4], word(i));
    float x[E::kPerWord];
    E::unpack(E::larger(E::larger(best[0], best[1]), E::larger(best[2], best[3])), x);
    return max_keeping_nan(x[0], x[E::kPerWord - 1]);
  }
};

// A row, or part of one, split for 16-byte access: [0, head) and [tail(), count) one by one, the rest in vectors. Fewer
// than 2^31 elements, as targets are 32-bit.
template <class E>
struct RowSplit {
  int64_t count;
  int head;
  int vectors;

  __device__ RowSplit(const typename E::Element* row, int64_t count_) : count(count_) {
    constexpr int kBytes = sizeof(uint4);
    constexpr int kSize = sizeof(typename E::Element);
    const int misaligned = static_cast<int>(reinterpret_cast<uintptr_t>(row) % kBytes);
    head = misaligned == 0 ? 0 : (kBytes - misaligned) / kSize;
    head = head < count ? head : static_cast<int>(count);
    vectors = static_cast<int>((count - head) / kPerVector<E>);
  }

  // Everything one by one, as where two arrays are aligned differently.
  __device__ void make_single() {
    head = static_cast<int>(count);
    vectors = 0;
  }

  __device__ int64_t tail() const { return head + int64_t{vectors} * kPerVector<E>; }
  __device__ int64_t singles() const { return count - int64_t{vectors} * kPerVector<E>; }
  // Of the singles()' elements number i.
  __device__ int64_t single(int64_t i) const { return i < head ? i : tail() + i - head; }
};

}  // namespace rlvr::cuda
