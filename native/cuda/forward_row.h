// A row of the forward pass: whether it is read, and its results from the sums of its block. Formulas in
// ops/token_log_probs.h.
#pragma once

#include "cuda/partial_sums.h"
#include "cuda/row_sums.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {
namespace {

template <class E>
struct Row {
  int64_t t;
  const typename E::Element* elements;
  RowSplit<E> split;

  __device__ Row(const TokenRowsForward& op, int64_t t_)
      : t(t_),
        elements(static_cast<const typename E::Element*>(op.logits) + t * op.row_stride),
        split(elements, op.vocab) {}
};

// A lane writes row t's results. `rest` is the sum of 2^e over all elements but one largest, weighted with e.
__device__ void finish_row(const TokenRowsForward& op, int64_t t, float at_target, float max, const Sums& rest,
                           double inverse_temperature) {
  const double log_rest = log1p(rest.total);
  const double log_prob = (static_cast<double>(at_target) - static_cast<double>(max)) * inverse_temperature - log_rest;
  const bool valid = isfinite(log_prob) && isfinite(max);
  op.log_probs[t] = valid ? log_prob : 0;
  const double of_others = max == kNegativeInfinity ? -INFINITY : 0;
  op.log_sum_exp[t] = valid ? static_cast<double>(max) * inverse_temperature + log_rest : of_others;
  if (op.entropy != nullptr) op.entropy[t] = valid ? log_rest - kLn2 * rest.weighted / (1 + rest.total) : 0;
  op.kept[t] = valid ? 1 : 0;
  if (!valid) atomicAdd(op.non_finite, 1);
}

__device__ bool masked(const TokenRowsForward& op, int64_t t) { return op.mask != nullptr && op.mask[t] == 0; }

// Whether row t is worth reading.
[[maybe_unused]] __device__ bool readable(const TokenRowsForward& op, int64_t t) {
  const int64_t target = op.targets[t];
  return !masked(op, t) && target >= kNoTarget && target < op.vocab;
}

// A thread writes the results of a row that is not.
[[maybe_unused]] __device__ void leave_out_row(const TokenRowsForward& op, int64_t t) {
  op.log_probs[t] = 0;
  op.log_sum_exp[t] = 0;
  if (op.entropy != nullptr) op.entropy[t] = 0;
  op.kept[t] = 0;
  if (!masked(op, t)) atomicAdd(op.non_finite, 1);
}

constexpr int kRowWarps = kRowThreads / kWarp;
using RowPartials = PartialSums[kRowWarps];

// The results of a row, of which the threads of a block have the sums. The sums of its warps meet in `parts`, and the
// warp with the largest element finishes the row. True for the thread that has written the results.
template <class E, bool kEntropy, class BlockSums>
__device__ bool end_row(const TokenRowsForward& op, const Row<E>& row, const BlockSums& sums, RowPartials& parts,
                        const Scale& scale) {
  const WarpSums warp = sums.warp_sums();
  if (lane_index() == 0) parts[warp_index()] = warp.sums;
  __syncthreads();
  const Winner winner = find_winner(parts);
  if (winner.part != warp_index()) return false;
  const Sums around = sums_around<kEntropy>(parts, winner, scale.inverse * kLog2E);
  const Sums rest = leave_out_largest(around, parts[winner.part].of_chunk, [&] {
    return sums.without_largest(row.elements, row.split, warp.owner, winner.max);
  });
  if (lane_index() != 0) return false;
  const int32_t target = op.targets[row.t];
  const float at_target = target == kNoTarget ? 0.0f : E::widen(row.elements[target]);
  finish_row(op, row.t, at_target, winner.max, rest, scale.inverse);
  return true;
}

}  // namespace
}  // namespace rlvr::cuda
