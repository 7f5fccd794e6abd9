// advantage-objective as a phase; formulas in ops/advantage_objective.h. N numbers: one block, one fixed order.
#pragma once

#include "cuda/sequences.h"

namespace rlvr::cuda {
namespace {

__device__ inline void run_phase(const AdvantageObjective& op) {
  __shared__ double normalizer;
  double tokens = 0;
  if (op.normalizer == 0) for_each_summand(op.sequences, [&](int64_t i) { tokens += op.token_counts[i]; });
  tokens = block_sum<kPhaseThreads>(tokens);
  if (threadIdx.x == 0) normalizer = checked_normalizer(op.normalizer == 0 ? tokens : op.normalizer);
  __syncthreads();
  double loss = 0;
  for_each_summand(op.sequences, [&](int64_t i) {
    const double advantage = op.advantages == nullptr ? 1 : op.advantages[i];
    const double count = op.token_counts[i];
    const bool counts = count != 0 && advantage != 0;
    const double gradient = counts ? weighted(op, count, advantage, normalizer) : 0;
    op.grad_scores[i] = gradient;
    if (counts) loss += gradient * op.scores[i];
  });
  loss = block_sum<kPhaseThreads>(loss);
  if (threadIdx.x == 0) op.loss[0] = loss;
}

}  // namespace
}  // namespace rlvr::cuda
