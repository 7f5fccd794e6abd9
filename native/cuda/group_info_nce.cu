// group-info-nce on the GPU; formulas in ops/group_info_nce.h. One warp per group; then one block sums the groups'
// losses in a fixed order. Few groups are done by that block alone: a second launch would take longer than they do.
// Differences are taken before dividing by tau, so no tau overflows.
#include <cmath>

#include "cuda/sequences.h"

namespace rlvr::cuda {
namespace {

constexpr int kSumThreads = 256;
constexpr int kAloneThreads = 512;
constexpr int64_t kAloneGroups = 2 * kAloneThreads / kWarp;

// The k-th sequence of the packed groups.
__device__ int64_t member(const GroupInfoNce& op, int64_t k) {
  return op.group_order == nullptr ? k : op.group_order[k];
}

__device__ bool positive(const GroupInfoNce& op, int64_t i) { return op.rewards[i] > op.positive_threshold; }

// -J_g, in every lane; writes the gradient of loss = sum_g -J_g / normalizer.
__device__ double group_loss(const GroupInfoNce& op, int64_t begin, int64_t end) {
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

// By the warps of all blocks.
template <int kThreads>
__device__ void all_groups(const GroupInfoNce& op) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp_index();
  for (int64_t g = first; g < op.groups; g += warps) {
    const double loss = group_loss(op, op.cu_groups[g], op.cu_groups[g + 1]);
    if (lane_index() == 0) op.group_losses[g] = loss;
  }
}

// By one block.
template <int kThreads>
__device__ void total(const GroupInfoNce& op) {
  double sum = 0;
  double shares = 0;  // the same where the sum of the losses is beyond the range of a double
  for (int64_t g = threadIdx.x; g < op.groups; g += kThreads) {
    sum += op.group_losses[g];
    shares += op.group_losses[g] / op.normalizer;
  }
  sum = block_sum<kThreads>(sum);
  shares = block_sum<kThreads>(shares);
  if (threadIdx.x == 0) op.loss[0] = representable(sum) ? sum / op.normalizer : shares;
}

__global__ __launch_bounds__(kSequenceThreads) void groups_kernel(GroupInfoNce op) {
  all_groups<kSequenceThreads>(op);
}

__global__ __launch_bounds__(kSumThreads) void total_kernel(GroupInfoNce op) { total<kSumThreads>(op); }

__global__ __launch_bounds__(kAloneThreads) void alone_kernel(GroupInfoNce op) {
  all_groups<kAloneThreads>(op);
  __syncthreads();  // the losses of all groups are there
  total<kAloneThreads>(op);
}

}  // namespace

cudaError_t group_info_nce(const GroupInfoNce& op, cudaStream_t stream) {
  if (op.groups <= kAloneGroups) return launch(alone_kernel, 1, kAloneThreads, stream, op);
  const cudaError_t error = launch(groups_kernel, warp_blocks(op.groups), kSequenceThreads, stream, op);
  if (error != cudaSuccess) return error;
  return launch(total_kernel, 1, kSumThreads, stream, op);
}

}  // namespace rlvr::cuda
