// What the sequence-level kernels share: one warp per sequence, warps persistent over sequences, sums in a fixed order.
#pragma once

#include "cuda/ops.h"
#include "cuda/platform.h"
#include "cuda/reduce.h"

namespace rlvr::cuda {

constexpr int kSequenceThreads = 128;
constexpr int64_t kMaxSequenceBlocks = 132 * 16;

// Blocks for `count` warps of work.
inline int64_t warp_blocks(int64_t count) {
  constexpr int64_t kWarps = kSequenceThreads / kWarp;
  const int64_t blocks = (count + kWarps - 1) / kWarps;
  return blocks < kMaxSequenceBlocks ? blocks : kMaxSequenceBlocks;
}

// Calls body(i) with a whole warp for every i < count.
template <class Body>
__device__ void for_each_warp(int64_t count, Body body) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kSequenceThreads / kWarp);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kSequenceThreads / kWarp) + warp_index();
  for (int64_t i = first; i < count; i += warps) body(i);
}

__device__ __forceinline__ bool unmasked(const uint8_t* mask, int64_t t) { return mask == nullptr || mask[t] != 0; }

}  // namespace rlvr::cuda
