// The softmax statistics of part of a row, and how those of a block's warps combine. Spec section 2.
//
// Sums are of 2^e with e = (x - max) * scale, max the largest logit of the part and scale = log2(e) / temperature, and,
// weighted, of 2^e * e. One chunk is kept apart, the one that holds the maximum: where the maximum has much of the
// whole, its chunk is summed again without it, so log1p of the rest keeps its precision when p -> 1.
#pragma once

#include <cmath>

#include "cuda/elements.h"
#include "cuda/reduce.h"

namespace rlvr::cuda {
namespace {  // so that the emulation's sanitizers guard the shared arrays

struct Sums {
  double total;
  double weighted;
};

__device__ inline Sums operator+(const Sums& a, const Sums& b) { return {a.total + b.total, a.weighted + b.weighted}; }

// Sums whose exponents all become `rise` larger, rise <= 0 as far as it matters. Nothing stays nothing.
__device__ inline Sums moved(const Sums& sums, double rise) {
  const double factor = exp2(rise);
  if (!(factor > 0)) return {0, 0};
  return {sums.total * factor, (sums.weighted + rise * sums.total) * factor};
}

struct PartialSums {
  float max;       // NaN or +inf: the row is not finite
  Sums of_chunk;   // of the chunk that holds max
  Sums of_others;  // of all other chunks
};

// Every lane's sums added, in the order of a tree; all lanes get the result.
__device__ inline Sums warp_sum(const Sums& sums) { return {warp_sum(sums.total), warp_sum(sums.weighted)}; }

// The largest of the parts' maxima (NaN if one is) and the first part that has it.
struct Winner {
  float max;
  int part;
};

template <int kParts>
__device__ Winner find_winner(const PartialSums (&parts)[kParts]) {
  Winner winner{parts[0].max, 0};
#pragma unroll 1  // eight maxima are not worth registers
  for (int i = 1; i < kParts; ++i) {
    const float max = parts[i].max;
    if (winner.max != winner.max || max <= winner.max) continue;
    winner = {max, i};
  }
  return winner;
}

// The sums of all parts but for the winner's chunk, for all lanes of a warp.
template <int kParts>
__device__ Sums sums_around(const PartialSums (&parts)[kParts], const Winner& winner, double scale) {
  static_assert(kParts <= kWarp);
  Sums sums{0, 0};
  const int i = lane_index();
  if (i < kParts && parts[i].max > kNegativeInfinity) {
    sums = i == winner.part ? parts[i].of_others : parts[i].of_others + parts[i].of_chunk;
    sums = moved(sums, (static_cast<double>(parts[i].max) - static_cast<double>(winner.max)) * scale);
  }
  return warp_sum(sums);
}

// The sums of a row without its largest element, whose term is 1. `around` has all but the chunk with that element;
// without() gives the chunk's other elements. It is asked only where subtracting the 1 would cost precision.
template <class Without>
__device__ Sums leave_out_largest(const Sums& around, const Sums& chunk, Without without) {
  Sums all = around + chunk;
  if (all.total < 4) return around + without();
  all.total -= 1;
  return all;
}

}  // namespace
}  // namespace rlvr::cuda
