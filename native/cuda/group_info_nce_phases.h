// group-info-nce as phases; formulas in ops/group_info_nce.h. A warp for each group; then the sum of the losses of all
// groups. Differences are taken before dividing by tau, so no tau overflows.
#pragma once

#include <cmath>

#include "cuda/sequences.h"

namespace rlvr::cuda {
namespace {

// The k-th sequence of the packed groups.
__device__ inline int64_t member(const GroupInfoNce& op, int64_t k) {
  return op.group_order == nullptr ? k : op.group_order[k];
}

__device__ inline bool positive(const GroupInfoNce& op, int64_t i) { return op.rewards[i] > op.positive_threshold; }

// -J_g, in every lane; writes the gradient of loss = sum_g -J_g / normalizer.
__device__ inline double group_loss(const GroupInfoNce& op, int64_t begin, int64_t end) {
  const int64_t first = begin + lane_index();
  double positives = 0;
  double negatives = 0;
  double tokens = 0;
  double largest = static_cast<double>(-INFINITY);  // negative score
  for (int64_t k = first; k < end; k += kWarp) {
    const int64_t i = member(op, k);
    op.grad_scores[i] = 0;
    tokens += op.token_counts == nullptr ? 1 : op.token_counts[i];
    if (positive(op, i)) {
      positives += 1;
    } else {
      negatives += 1;
      largest = op.scores[i] > largest ? op.scores[i] : largest;
    }
  }
  positives = warp_sum(positives);
  negatives = warp_sum(negatives);
  tokens = warp_sum(tokens);
  largest = warp_max(largest);
  if (positives == 0 || negatives == 0 || tokens == 0) return 0;

  double sum = 0;  // of exp((s_j - largest) / tau)
  for (int64_t k = first; k < end; k += kWarp)
    if (const int64_t j = member(op, k); !positive(op, j)) sum += exp(scaled_difference(op.scores[j], largest, op.tau));
  sum = warp_sum(sum);
  const double spread = op.tau * log(sum);  // of b from the largest negative score

  const double share = 1 / positives;
  double loss = 0;
  double pull = 0;  // sum over positives of sigmoid((b - a_i) / tau)
  for (int64_t k = first; k < end; k += kWarp) {
    const int64_t i = member(op, k);
    if (!positive(op, i)) continue;
    const double gap = lead(largest, spread, op.scores[i], op.margin);
    const double small = exp(-fabs(gap) / op.tau);
    const double sigmoid = gap >= 0 ? 1 / (1 + small) : small / (1 + small);
    loss += share * ((gap > 0 ? gap : 0) + op.tau * log1p(small));
    pull += sigmoid;
    op.grad_scores[i] = -share * sigmoid / op.normalizer;
  }
  loss = warp_sum(loss);
  pull = warp_sum(pull);
  const double push = share * pull / sum / op.normalizer;
  for (int64_t k = first; k < end; k += kWarp)
    if (const int64_t j = member(op, k); !positive(op, j))
      op.grad_scores[j] = push * exp(scaled_difference(op.scores[j], largest, op.tau));
  return loss;
}

__device__ inline void run_phase(const GroupInfoNce& op) {
  for_each_warp(op.groups, [&](int64_t g) {
    const double loss = group_loss(op, op.cu_groups[g], op.cu_groups[g + 1]);
    if (lane_index() == 0) op.group_losses[g] = loss;
  });
}

// By one block.
__device__ inline void run_phase(const GroupTotal& phase) {
  const GroupInfoNce& op = phase.op;
  double sum = 0;
  double shares = 0;  // the same where the sum of the losses is beyond the range of a double
  for_each_summand(op.groups, [&](int64_t g) {
    sum += op.group_losses[g];
    shares += op.group_losses[g] / op.normalizer;
  });
  sum = block_sum<kPhaseThreads>(sum);
  shares = block_sum<kPhaseThreads>(shares);
  if (threadIdx.x == 0) op.loss[0] = representable(sum) ? sum / op.normalizer : shares;
}

}  // namespace
}  // namespace rlvr::cuda
