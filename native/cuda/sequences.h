// What the phases share (phases.h): a warp for each sequence or group, warps persistent, sums in a fixed order.
#pragma once

#include "cuda/phases.h"
#include "cuda/platform.h"
#include "cuda/reduce.h"

namespace rlvr::cuda {

// Calls body(i) with a whole warp for every i < count.
template <class Body>
__device__ void for_each_warp(int64_t count, Body body) {
  const int64_t warps_of_block = blockDim.x / kWarp;
  const int64_t first = blockIdx.x * warps_of_block + warp_index();
  for (int64_t i = first; i < count; i += gridDim.x * warps_of_block) body(i);
}

constexpr int kSumThreads = 256;
static_assert(kSumThreads <= kPhaseThreads);

// For sums over a phase's one block: calls body(i) for every i < count, each thread for its own in rising order.
template <class Body>
__device__ void for_each_summand(int64_t count, Body body) {
  if (threadIdx.x >= kSumThreads) return;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) body(i);
}

__device__ __forceinline__ bool unmasked(const uint8_t* mask, int64_t t) { return mask == nullptr || mask[t] != 0; }

}  // namespace rlvr::cuda
