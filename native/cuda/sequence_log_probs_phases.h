// sequence-log-probs as phases; formulas in ops/sequence_log_probs.h. Masked log-probs are never read.
#pragma once

#include "cuda/sequences.h"

namespace rlvr::cuda {
namespace {

__device__ inline void run_phase(const SequenceLogProbsForward& op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    const int64_t begin = op.cu_seqlens[i] + lane_index();
    const int64_t end = op.cu_seqlens[i + 1];
    double sum = 0;
    double count = 0;
    for (int64_t t = begin; t < end; t += kWarp) {
      if (!unmasked(op.mask, t)) continue;
      sum += op.log_probs[t];
      count += 1;
    }
    count = warp_sum(count);
    const double divisor = count > 1 ? count : 1;
    double mean = warp_sum(sum) / divisor;
    if (!representable(mean)) {  // in all lanes: the sum is beyond the range of a double; the sum of the shares is not
      double shares = 0;
      for (int64_t t = begin; t < end; t += kWarp) shares += unmasked(op.mask, t) ? op.log_probs[t] / divisor : 0;
      mean = warp_sum(shares);
    }
    if (lane_index() != 0) return;
    op.token_counts[i] = count;
    op.scores[i] = mean;
  });
}

__device__ inline void run_phase(const SequenceLogProbsBackward& op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    const double count = op.token_counts[i];
    const double share = op.grad_scores[i] / (count > 1 ? count : 1);
    for (int64_t t = op.cu_seqlens[i] + lane_index(); t < op.cu_seqlens[i + 1]; t += kWarp)
      op.grad_log_probs[t] = unmasked(op.mask, t) ? share : 0;
  });
}

}  // namespace
}  // namespace rlvr::cuda
