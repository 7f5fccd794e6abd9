// Sums over a warp and a block in one fixed order: the same bits on every run.
#pragma once

#include "cuda/platform.h"

namespace rlvr::cuda {
namespace {  // so that the emulation's sanitizers guard the shared arrays

// Combines every lane's value; all lanes get the result. Values cross lanes as themselves (double, float, int).
template <class Value, class Combine>
__device__ __forceinline__ Value warp_reduce(Value value, Combine combine) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = combine(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

__device__ __forceinline__ double warp_sum(double value) {
  return warp_reduce(value, [](double a, double b) { return a + b; });
}

__device__ __forceinline__ double warp_max(double value) {
  return warp_reduce(value, [](double a, double b) { return a > b ? a : b; });
}

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }

// The sum over a block of kThreads; only thread 0 gets it.
template <int kThreads>
__device__ double block_sum(double value) {
  __shared__ double partial[kThreads / kWarp];
  const double sum = warp_sum(value);
  __syncthreads();  // the last use of `partial` is over
  if (lane_index() == 0) partial[warp_index()] = sum;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0)
    for (double part : partial) total += part;
  return total;
}

}  // namespace
}  // namespace rlvr::cuda
