// The running softmax statistics of part of a row, and how two of them combine. Spec section 2.
//
// max is the largest logit x seen; rest is sum exp((x - max) / T) over all others: one term, the maximum's own, which
// is exactly 1, is left out, so log1p(rest) keeps its precision when p -> 1. weighted is sum exp((x - max) / T) * (x -
// max). The sums are float64: they meet few, large float32 partial sums.
#pragma once

#include <cmath>

#include "cuda/platform.h"

namespace rlvr::cuda {
namespace {  // so that the emulation's sanitizers guard the shared arrays

constexpr float kNegativeInfinity = -INFINITY;

struct PartialSums {
  float max;
  double rest;
  double weighted;
};

__device__ inline PartialSums no_sums() { return {kNegativeInfinity, 0, 0}; }

// Moves sums to a larger maximum; the old maximum joins the rest. Sums of nothing stay nothing.
__device__ inline PartialSums rebase(const PartialSums& sums, float max, double inverse_temperature) {
  if (sums.max == kNegativeInfinity) return {max, sums.rest, 0};  // rest is 0, or NaN that must not be lost
  const double shift = static_cast<double>(sums.max) - static_cast<double>(max);
  const double factor = exp(shift * inverse_temperature);
  const double all = sums.rest + 1;
  return {max, all * factor, (sums.weighted + shift * all) * factor};
}

__device__ inline PartialSums combine(const PartialSums& a, const PartialSums& b, double inverse_temperature) {
  const bool a_wins = a.max >= b.max;  // never NaN
  const float max = a_wins ? a.max : b.max;
  // Field by field: choosing between whole structs would put them into local memory.
  const PartialSums loser{a_wins ? b.max : a.max, a_wins ? b.rest : a.rest, a_wins ? b.weighted : a.weighted};
  const PartialSums moved = rebase(loser, max, inverse_temperature);
  return {max, (a_wins ? a.rest : b.rest) + moved.rest, (a_wins ? a.weighted : b.weighted) + moved.weighted};
}

// The combination over a block of kThreads, in a fixed order; only thread 0 gets it.
template <int kThreads>
__device__ PartialSums block_combine(PartialSums sums, double inverse_temperature) {
  __shared__ PartialSums partial[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    PartialSums other;
    other.max = __shfl_down_sync(kAllLanes, sums.max, offset);
    other.rest = __shfl_down_sync(kAllLanes, sums.rest, offset);
    other.weighted = __shfl_down_sync(kAllLanes, sums.weighted, offset);
    sums = combine(sums, other, inverse_temperature);
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  __syncthreads();  // the last row's use of `partial` is over
  if (lane == 0) partial[warp] = sums;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int w = 1; w < kThreads / kWarp; ++w) sums = combine(sums, partial[w], inverse_temperature);
  return sums;
}

}  // namespace
}  // namespace rlvr::cuda
