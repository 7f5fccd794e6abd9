// ratio-scores as phases; formulas in ops/ratio_scores.h, the rules themselves shared with the CPU in
// ops/ratio_rules.h. Masked tokens are never read.
#pragma once

#include "cuda/sequences.h"
#include "ops/ratio_rules.h"

namespace rlvr::cuda {
namespace {

using namespace ratio;

// Every lane gets the sums of the warp.
__device__ inline Sums warp_sums(Sums sums) {
  sums.count = warp_sum(sums.count);
  sums.value = warp_sum(sums.value);
  sums.low = warp_sum(sums.low);
  sums.high = warp_sum(sums.high);
  sums.ratio = warp_sum(sums.ratio);
  sums.ratio_square = warp_sum(sums.ratio_square);
  sums.log_ratio = warp_sum(sums.log_ratio);
  sums.largest_ratio = warp_max(sums.largest_ratio);
  sums.sampler = warp_sum(sums.sampler);
  sums.log_prob = warp_sum(sums.log_prob);
  return sums;
}

// Applies the sequence's ratio token by token; each lane writes its own tokens. Returns the mean.
__device__ inline double token_form_score(const RatioScoresForward& op, int64_t i, double divisor, Sums& sums) {
  const SequenceRatio ratio = score_ratio(op, sums, divisor);
  Sums shares;
  for (int64_t t = op.cu_seqlens[i] + lane_index(); t < op.cu_seqlens[i + 1]; t += kWarp)
    if (unmasked(op.mask, t)) add_token_form(op, i, t, ratio, divisor, shares);
  shares = warp_sums(shares);
  sums.low = shares.low;
  sums.high = shares.high;
  return shares.value / divisor;
}

__device__ inline void run_phase(const RatioScoresForward& op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    const int64_t begin = op.cu_seqlens[i] + lane_index();
    const int64_t end = op.cu_seqlens[i + 1];
    Sums sums;
    for (int64_t t = begin; t < end; t += kWarp) {
      op.score_grads[t] = 0;
      if (unmasked(op.mask, t)) add_token(op, i, t, sums);
    }
    sums = warp_sums(sums);
    const double divisor = sums.count > 1 ? sums.count : 1;
    double value = 0;
    if (token_form(op)) {
      value = token_form_score(op, i, divisor, sums);
    } else if (weighted_by_sequence(op)) {
      const double mean = sums.value / divisor;
      const SequenceRatio ratio = sequence_ratio(op, sums.sampler, divisor);
      for (int64_t t = begin; t < end; t += kWarp)
        if (unmasked(op.mask, t)) weigh_gradient(op, t, ratio, mean, divisor);
      value = mean * ratio.value;
    } else {
      const Term score = sequence_score(op, sums, divisor, op.sides == nullptr ? 0 : op.sides[i]);
      for (int64_t t = begin; t < end; t += kWarp) op.score_grads[t] *= score.derivative;  // each lane its own
      value = score.value;
      if (score.clip == Clip::kLow) sums.low = sums.count;
      if (score.clip == Clip::kHigh) sums.high = sums.count;
    }
    if (lane_index() != 0) return;
    op.scores[i] = value;
    op.token_counts[i] = sums.count;
    op.clipped_low[i] = static_cast<int32_t>(sums.low);
    op.clipped_high[i] = static_cast<int32_t>(sums.high);
    write_stats(op, i, sums);
  });
}

__device__ inline void run_phase(const RatioScoresBackward& op) {
  for_each_warp(op.sequences, [&](int64_t i) {
    for (int64_t t = op.cu_seqlens[i] + lane_index(); t < op.cu_seqlens[i + 1]; t += kWarp) {
      const double gradient = op.grad_scores[i] * op.score_grads[t];
      op.grad_log_probs[t] = (op.accumulate ? op.grad_log_probs[t] : 0) + gradient;
    }
  });
}

}  // namespace
}  // namespace rlvr::cuda
