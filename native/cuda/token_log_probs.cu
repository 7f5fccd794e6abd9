// token-log-probs on the GPU; formulas in ops/token_log_probs.h, spec section 2.
//
// Forward: one row per block, blocks persistent over rows, the row read once (row_sums.h). The sums of its warps meet
// in shared memory, and the warp with the largest element finishes the row while the others begin the next. Masked rows
// are not touched. Offsets are 64-bit.
// Backward: tiles of a row, elementwise given logsumexp and the upstream gradient (logits_gradient.h); reads and writes
// each element once, in place or not; rows without gradient are zero-filled without being read.
// Neither depends on how many blocks there are: those are as many as the device can hold.
// A one-pass variant (row kept on chip over a cluster, forward and gradient in 1R + 1W) belongs beside these two, and
// would be chosen in token_log_probs_backward below.
#include "cuda/launch_phase.h"
#include "cuda/logits_gradient.h"
#include "cuda/ops.h"
#include "cuda/partial_sums.h"
#include "cuda/row_sums.h"
#include "cuda/upstream_phase.h"

namespace rlvr::cuda {
namespace {

constexpr int kRowWarps = kRowThreads / kWarp;

// Elements of a row per backward block, 64 KiB: enough to pay for the row's constants.
template <class E>
constexpr int64_t kTile = (int64_t{1} << 14) * E::kPerWord;

// Blocks per multiprocessor that the registers must suffice for.
constexpr int kResident = 3;

// A lane writes row t's results. `rest` is the sum of 2^e over all elements but one largest, weighted with e.
__device__ void finish_row(const TokenLogProbsForward& op, int64_t t, float at_target, float max, const Sums& rest,
                           double inverse_temperature) {
  const double log_rest = log1p(rest.total);
  const double log_prob = (static_cast<double>(at_target) - static_cast<double>(max)) * inverse_temperature - log_rest;
  const bool valid = isfinite(log_prob) && isfinite(max);
  op.log_probs[t] = valid ? log_prob : 0;
  op.log_sum_exp[t] = valid ? static_cast<double>(max) * inverse_temperature + log_rest : 0;
  if (op.entropy != nullptr) op.entropy[t] = valid ? log_rest - kLn2 * rest.weighted / (1 + rest.total) : 0;
  op.kept[t] = valid ? 1 : 0;
  if (!valid) atomicAdd(op.non_finite, 1);
}

// Whether row t is worth reading; writes its results if not.
__device__ bool readable(const TokenLogProbsForward& op, int64_t t) {
  const bool masked = op.mask != nullptr && op.mask[t] == 0;
  const int64_t target = op.targets[t];
  if (!masked && target >= 0 && target < op.vocab) return true;
  if (threadIdx.x != 0) return false;
  op.log_probs[t] = 0;
  op.log_sum_exp[t] = 0;
  if (op.entropy != nullptr) op.entropy[t] = 0;
  op.kept[t] = 0;
  if (!masked) atomicAdd(op.non_finite, 1);
  return false;
}

template <class E, bool kEntropy>
__global__ __launch_bounds__(kRowThreads, kResident) void forward_kernel(TokenLogProbsForward op, Scale scale) {
  __shared__ PartialSums partials[2][kRowWarps];  // of two rows in turn, so that one barrier per row is enough
  int turn = 0;
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    if (!readable(op, t)) continue;
    const auto* row = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride;
    const RowSplit<E> split(row, op.vocab);
    ThreadSums<E, kEntropy> sums(scale.base);
    sums.add_row(row, split);
    const WarpSums warp = sums.warp_sums();
    PartialSums(&parts)[kRowWarps] = partials[turn];
    if (lane_index() == 0) parts[warp_index()] = warp.sums;
    __syncthreads();
    turn ^= 1;
    const Winner winner = find_winner(parts);
    if (winner.part != warp_index()) continue;
    const Sums around = sums_around<kEntropy>(parts, winner, scale.inverse * kLog2E);
    const Sums rest = leave_out_largest(around, parts[winner.part].of_chunk,
                                        [&] { return sums.without_largest(row, split, warp.owner, winner.max); });
    if (lane_index() == 0) finish_row(op, t, E::widen(row[op.targets[t]]), winner.max, rest, scale.inverse);
  }
}

__global__ __launch_bounds__(kSequenceThreads) void upstream_kernel(UpstreamCheck phase) { run_phase(phase); }

// A tile of row t. Returns whether what this thread wrote of it is finite.
template <class E, bool kEntropy>
__device__ bool gradient_tile(const TokenLogProbsBackward& op, int64_t t, int64_t begin, const Scale& scale) {
  const int64_t left = op.vocab - begin;
  const auto* x = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride + begin;
  auto* out = static_cast<typename E::Element*>(op.grad_logits) + t * op.grad_row_stride + begin;
  const Tile<E> tile(x, out, left < kTile<E> ? left : kTile<E>);
  const RowGradient row = row_gradient<E>(op, t, scale);
  if (row.zero) {
    zero_fill(tile);
    return true;
  }
  const int64_t target = op.targets[t] - begin;
  const bool has_target = target >= 0 && target < tile.split.count && tile.mine(target);
  const float at_target = has_target ? E::widen(x[target]) : 0.0f;  // read before it is written over
  const bool finite = write_probabilities<E, kEntropy>(tile, row);
  if (!has_target) return finite;
  out[target] = E::narrow(target_gradient(op, t, at_target, row, scale.inverse));
  // What was there before may have been too large where the entry itself is not.
  return finite ? isfinite(E::widen(out[target])) : is_finite(tile);
}

template <class E, bool kEntropy>
__global__ __launch_bounds__(kRowThreads, kResident) void backward_kernel(TokenLogProbsBackward op, unsigned tiles,
                                                                          Scale scale) {
  if ((op.halt != nullptr && op.halt[0] != 0) || op.bad_rows[0] != -1) return;
  // Tile blockIdx.x, and every gridDim.x-th after it, of `tiles` per row.
  unsigned tile = blockIdx.x % tiles;
  for (int64_t t = blockIdx.x / tiles; t < op.tokens; t += gridDim.x / tiles) {
    if (!gradient_tile<E, kEntropy>(op, t, tile * kTile<E>, scale)) lower(&op.bad_rows[1], t);
    tile += gridDim.x % tiles;
    if (tile < tiles) continue;
    tile -= tiles;
    ++t;
  }
}

template <class E>
cudaError_t launch_forward(const TokenLogProbsForward& op, cudaStream_t stream) {
  const auto kernel = op.entropy != nullptr ? forward_kernel<E, true> : forward_kernel<E, false>;
  return launch_resident(kernel, op.tokens, kRowThreads, stream, op, scale_of<E::kExactScale>(op.temperature));
}

cudaError_t check_upstream(const TokenLogProbsBackward& op, PhaseQueue& queue) {
  const UpstreamCheck check{op};
  if (op.tokens > kSmallTokens) return launch_phase(upstream_kernel, check, (op.tokens + kWarp - 1) / kWarp, queue);
  return queue.add({Phase::Kind::kUpstreamCheck, {.upstream_check = check}});
}

template <class E>
cudaError_t launch_backward(const TokenLogProbsBackward& op, cudaStream_t stream) {
  const auto tiles = static_cast<unsigned>((op.vocab + kTile<E> - 1) / kTile<E>);
  const auto kernel = op.grad_entropy != nullptr ? backward_kernel<E, true> : backward_kernel<E, false>;
  const Scale scale = scale_of<E::kExactScale>(op.temperature);
  return launch_resident(kernel, op.tokens * tiles, kRowThreads, stream, op, tiles, scale);
}

}  // namespace

cudaError_t token_log_probs_forward(const TokenLogProbsForward& op, PhaseQueue& queue) {
  if (op.tokens == 0) return cudaSuccess;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  switch (op.dtype) {
    case DType::kF32:
      return launch_forward<F32>(op, queue.stream());
    case DType::kBF16:
      return launch_forward<Bf16>(op, queue.stream());
    case DType::kF16:
      return launch_forward<F16>(op, queue.stream());
  }
  return cudaErrorInvalidValue;
}

cudaError_t token_log_probs_backward(const TokenLogProbsBackward& op, PhaseQueue& queue) {
  if (op.tokens == 0 || op.vocab == 0) return cudaSuccess;
  if (const cudaError_t error = check_upstream(op, queue); error != cudaSuccess) return error;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  switch (op.dtype) {
    case DType::kF32:
      return launch_backward<F32>(op, queue.stream());
    case DType::kBF16:
      return launch_backward<Bf16>(op, queue.stream());
    case DType::kF16:
      return launch_backward<F16>(op, queue.stream());
  }
  return cudaErrorInvalidValue;
}

}  // namespace rlvr::cuda
