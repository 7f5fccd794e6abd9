// The three element types of a [T, V] array, in vectors of 16 bytes.
#pragma once

#include <cmath>

#include "cuda/platform.h"

namespace rlvr::cuda {

struct F32 {
  using Element = float;
  static constexpr int kPerVector = 4;
  static constexpr float kOverflow = INFINITY;  // the first float that narrow() makes infinite
  __device__ static float widen(float x) { return x; }
  __device__ static float narrow(float x) { return x; }
  __device__ static float lane(const uint4& v, int i) { return __uint_as_float((&v.x)[i]); }
  __device__ static void set_lane(uint4& v, int i, float x) { (&v.x)[i] = __float_as_uint(x); }
};

// Two elements to a 32-bit word, the first in the low half.
template <class Half>
struct Packed {
  using Element = uint16_t;
  static constexpr int kPerVector = 8;
  static constexpr float kOverflow = Half::kOverflow;
  __device__ static float widen(uint16_t bits) { return Half::to_float(bits); }
  __device__ static uint16_t narrow(float x) { return Half::from_float(x); }
  __device__ static float lane(const uint4& v, int i) {
    return Half::to_float(static_cast<uint16_t>((&v.x)[i / 2] >> (i % 2 * 16)));
  }
  __device__ static void set_lane(uint4& v, int i, float x) {
    const uint32_t bits = Half::from_float(x);
    unsigned& word = (&v.x)[i / 2];
    word = i % 2 == 0 ? bits : word | bits << 16;  // lanes are set in order
  }
};

struct Bf16Bits {
  static constexpr float kOverflow = 3.3961775e38f;
  __device__ static float to_float(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
  __device__ static uint16_t from_float(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
};

struct F16Bits {
  static constexpr float kOverflow = 65520.0f;
  __device__ static float to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  __device__ static uint16_t from_float(float x) { return __half_as_ushort(__float2half_rn(x)); }
};

using Bf16 = Packed<Bf16Bits>;
using F16 = Packed<F16Bits>;

// A row split for 16-byte access: [0, head) and [tail, count) one by one, the rest in vectors.
struct RowSplit {
  int64_t head;
  int64_t vectors;
  int64_t tail;
};

template <class E>
__device__ RowSplit split_row(const typename E::Element* row, int64_t count) {
  constexpr int64_t kBytes = sizeof(uint4);
  constexpr int64_t kSize = sizeof(typename E::Element);
  const int64_t misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) % kBytes);
  int64_t head = misaligned == 0 ? 0 : (kBytes - misaligned) / kSize;
  head = head < count ? head : count;
  const int64_t vectors = (count - head) / E::kPerVector;
  return {head, vectors, head + vectors * E::kPerVector};
}

}  // namespace rlvr::cuda
