// advantage-objective on the GPU; formulas in ops/advantage_objective.h. N numbers: one block, one fixed order.
#include "cuda/ops.h"
#include "cuda/reduce.h"

namespace rlvr::cuda {
namespace {

constexpr int kThreads = 256;

__global__ __launch_bounds__(kThreads) void objective_kernel(AdvantageObjective op) {
  __shared__ double normalizer;
  double tokens = 0;
  if (op.normalizer == 0)
    for (int64_t i = threadIdx.x; i < op.sequences; i += kThreads) tokens += op.token_counts[i];
  tokens = block_sum<kThreads>(tokens);
  if (threadIdx.x == 0) normalizer = checked_normalizer(op.normalizer == 0 ? tokens : op.normalizer);
  __syncthreads();
  double loss = 0;
  for (int64_t i = threadIdx.x; i < op.sequences; i += kThreads) {
    const double advantage = op.advantages == nullptr ? 1 : op.advantages[i];
    const double count = op.token_counts[i];
    const bool counts = count != 0 && advantage != 0;
    const double gradient = counts ? weighted(op, count, advantage, normalizer) : 0;
    op.grad_scores[i] = gradient;
    if (counts) loss += gradient * op.scores[i];
  }
  loss = block_sum<kThreads>(loss);
  if (threadIdx.x == 0) op.loss[0] = loss;
}

}  // namespace

cudaError_t advantage_objective(const AdvantageObjective& op, cudaStream_t stream) {
  return launch(objective_kernel, 1, kThreads, stream, op);
}

}  // namespace rlvr::cuda
