// A row that a token is drawn from, as a block looks at it again and again: after the first time from the caches. Spec section 11.
//
// The row is cut into tiles, one after the other, each of which is a warp's at a time: what is known of a tile is added up in one order,
// and what is sought is sought in one tile. Masses that are compared with a share of the mass are fixed-point numbers, which add up to the
// same in any order.
#pragma once

#include <climits>

#include "cuda/elements.h"
#include "cuda/reduce.h"
#include "ops/sample_tokens.h"

namespace rlvr::cuda {
namespace {

constexpr int kTiles = kRowThreads;  // of a row, at most
constexpr int kTileWarps = kRowThreads / kWarp;

// exp((x - reference) / temperature), as a product of powers of 2 of a whole number and of a small one.
struct Mass {
  float reference;
  float high;  // 1 / temperature in base 2, in two parts
  float low;
  float floor;  // of x - reference: there it is 0

  __device__ Mass(float reference_, double inverse_temperature) : reference(reference_) {
    constexpr double kLog2E = 1.4426950408889634074;
    const double exact = inverse_temperature * kLog2E;
    high = static_cast<float>(exact);
    low = static_cast<float>(exact - static_cast<double>(high));
    floor = -200.0f / high;
  }

  __device__ float of(float x) const {
    const float distance = fmaxf(x - reference, floor);
    const float whole = rintf(distance * high);
    const float rest = fmaf(distance, low, fmaf(distance, high, -whole));
    return exp2_approx(whole) * exp2_approx(rest);
  }

  // Of 2^40, so that 2^20 of them are no more than 2^60.
  __device__ unsigned long long fixed(float x) const { return static_cast<unsigned long long>(of(x) * 0x1p40f); }
};

// What the threads of a block share of a row.
struct RowShared {
  double masses[kTiles];
  unsigned long long bins[kTiles];
  double others[kTileWarps];
  float warps[kTileWarps];
  int counts[3];
  unsigned prefix;
  unsigned long long above;
  int tile;
  double goal;
  int place;
};

template <class E>
class SampledRow {
 public:
  using Element = typename E::Element;

  __device__ SampledRow(const void* logits, int64_t start, int64_t vocab)
      : x_(static_cast<const Element*>(logits) + start), vocab_(static_cast<int>(vocab)) {
    const int each = (vocab_ - 1) / kTiles + 1;
    length_ = (each - 1) / kWarp * kWarp + kWarp;
    tiles_ = (vocab_ - 1) / length_ + 1;
  }

  __device__ int tiles() const { return tiles_; }
  __device__ float at(int v) const { return E::widen(x_[v]); }

  // Calls each(v, x) for the elements of this thread.
  template <class Each>
  __device__ void for_all(Each each) const {
    for (int64_t v = threadIdx.x; v < vocab_; v += kRowThreads) each(static_cast<int>(v), at(static_cast<int>(v)));
  }

  // Calls each(tile) for the tiles of this warp.
  template <class Each>
  __device__ void for_tiles(Each each) const {
    for (int tile = warp_index(); tile < tiles_; tile += kTileWarps) each(tile);
  }

  // Calls each(v, x, within) for the elements of a tile, with all lanes of a warp at once; until it returns true.
  template <class Each>
  __device__ void for_tile(int tile, Each each) const {
    const int64_t begin = int64_t{tile} * length_;
    const int64_t end = begin + length_ < vocab_ ? begin + length_ : vocab_;
    for (int64_t first = begin; first < end; first += kWarp) {
      const int64_t v = first + lane_index();
      const bool within = v < end;
      if (each(static_cast<int>(v), within ? at(static_cast<int>(v)) : kNegativeInfinity, within)) return;
    }
  }

  // The largest element; NaN if one is.
  __device__ float largest(RowShared& shared) const {
    float value = kNegativeInfinity;
    for_all([&](int, float x) { value = max_keeping_nan(value, x); });
    value = warp_reduce(value, max_keeping_nan);
    __syncthreads();  // the last use is over
    if (lane_index() == 0) shared.warps[warp_index()] = value;
    __syncthreads();
    value = shared.warps[0];
    for (int warp = 1; warp < kTileWarps; ++warp) value = max_keeping_nan(value, shared.warps[warp]);
    return value;
  }

  // Counts, per tile, the elements for which is(v, x), in shared.bins.
  template <class Is>
  __device__ void count(RowShared& shared, Is is) const {
    __syncthreads();
    for_tiles([&](int tile) {
      unsigned counted = 0;
      for_tile(tile, [&](int v, float x, bool within) {
        counted += static_cast<unsigned>(__popc(__ballot_sync(kAllLanes, within && is(v, x) ? 1 : 0)));
        return false;
      });
      if (lane_index() == 0) shared.bins[tile] = counted;
    });
    __syncthreads();
  }

 private:
  const Element* x_;
  int vocab_;
  int length_;
  int tiles_;
};

// Bits that are ordered as the numbers are; those of both zeros are the same.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float unordered(unsigned key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

}  // namespace
}  // namespace rlvr::cuda
