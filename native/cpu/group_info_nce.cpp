// See ops/group_info_nce.h. Differences are taken before dividing by tau, so no tau overflows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace rlvr::cpu {
namespace {

struct Sides {
  int64_t positives = 0;
  int64_t negatives = 0;
  bool any_token = false;
  double largest_negative = -std::numeric_limits<double>::infinity();
};

// The k-th sequence of the packed groups.
int64_t member(const GroupInfoNce& op, int64_t k) { return op.group_order == nullptr ? k : op.group_order[k]; }

bool positive(const GroupInfoNce& op, int64_t i) { return op.rewards[i] > op.positive_threshold; }

Sides count_sides(const GroupInfoNce& op, int64_t begin, int64_t end) {
  Sides sides;
  for (int64_t k = begin; k < end; ++k) {
    const int64_t i = member(op, k);
    sides.any_token = sides.any_token || op.token_counts == nullptr || op.token_counts[i] > 0;
    if (positive(op, i)) {
      ++sides.positives;
    } else {
      ++sides.negatives;
      sides.largest_negative = std::max(sides.largest_negative, op.scores[i]);
    }
  }
  return sides;
}

// -J_g; writes the gradient of loss = sum_g -J_g / normalizer.
double group_loss(const GroupInfoNce& op, int64_t begin, int64_t end) {
  const Sides sides = count_sides(op, begin, end);
  for (int64_t k = begin; k < end; ++k) op.grad_scores[member(op, k)] = 0;
  if (sides.positives == 0 || sides.negatives == 0 || !sides.any_token) return 0;
  double sum = 0;  // of exp((s_j - largest) / tau)
  for (int64_t k = begin; k < end; ++k)
    if (const int64_t j = member(op, k); !positive(op, j))
      sum += std::exp(scaled_difference(op.scores[j], sides.largest_negative, op.tau));
  const double spread = op.tau * std::log(sum);  // of b from the largest negative score

  const double share = 1 / static_cast<double>(sides.positives);
  double loss = 0;
  double pull = 0;  // sum over positives of sigmoid((b - a_i) / tau)
  for (int64_t k = begin; k < end; ++k) {
    const int64_t i = member(op, k);
    if (!positive(op, i)) continue;
    const double gap = lead(sides.largest_negative, spread, op.scores[i], op.margin);
    const double small = std::exp(-std::fabs(gap) / op.tau);
    const double sigmoid = gap >= 0 ? 1 / (1 + small) : small / (1 + small);
    loss += share * (std::max(gap, 0.0) + op.tau * std::log1p(small));
    pull += sigmoid;
    op.grad_scores[i] = -share * sigmoid / op.normalizer;
  }
  const double push = share * pull / sum / op.normalizer;
  for (int64_t k = begin; k < end; ++k)
    if (const int64_t j = member(op, k); !positive(op, j))
      op.grad_scores[j] = push * std::exp(scaled_difference(op.scores[j], sides.largest_negative, op.tau));
  return loss;
}

}  // namespace

void group_info_nce(const GroupInfoNce& op) {
  constexpr double kNanosecondsPerSequence = 10;
  const double each = kNanosecondsPerSequence * static_cast<double>(op.sequences) / static_cast<double>(op.groups);
  parallel_for(op.groups, each, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end && !cancelled(op.cancel); ++g)
      op.group_losses[g] = group_loss(op, op.cu_groups[g], op.cu_groups[g + 1]);
  });
  double total = 0;
  double shares = 0;  // the same where the sum of the losses is beyond the range of a double
  for (int64_t g = 0; g < op.groups; ++g) {
    total += op.group_losses[g];
    shares += op.group_losses[g] / op.normalizer;
  }
  op.loss[0] = representable(total) ? total / op.normalizer : shares;
}

}  // namespace rlvr::cpu
