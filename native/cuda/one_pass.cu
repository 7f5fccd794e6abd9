// The forward pass and the gradient of each row in one kernel, for losses that need no more than a row to know its
// gradient; formulas in ops/token_log_probs.h and ops/one_pass.h, spec section 9.
//
// A block reads a row as the forward pass does, so to the same bits (row_sums.h), then writes its gradient as the
// backward pass does (logits_gradient.h). The second read is to find the row in L2: no more rows are under way than fit
// there, though at least one for each multiprocessor. Then memory is read once and written once.
// A few rows would leave most of a device idle: those take the two passes, in which blocks share rows.
#include "cuda/forward_row.h"
#include "cuda/logits_gradient.h"
#include "cuda/ops.h"
#include "cuda/upstream_phase.h"
#include "ops/one_pass.h"

namespace rlvr::cuda {
namespace {

// Tasks are rows, of which there are fewer than 2^31.
template <class E, bool kEntropy>
__global__ __launch_bounds__(kRowThreads, kResident) void one_pass_kernel(TokenLogProbsOnePass op,
                                                                          TokenRowsBackward gradient, Scale scale,
                                                                          int pieces) {
  using BlockSums = RowSums<E, kEntropy, Reads::kAgain>;
  __shared__ RowPartials partials;
  __shared__ uint32_t words[BlockSums::kWords];
  for (unsigned task = blockIdx.x; task < op.forward.tokens; task += gridDim.x) {
    bool writes = threadIdx.x == 0;  // the results of this row
    if (readable(op.forward, task)) {
      BlockSums sums(scale.base);
      {
        const Row<E> row(op.forward, task);
        sums.add_pieces(row.elements, row.split, {0, false, pieces}, words);
      }
      writes = end_row<E, kEntropy>(op.forward, Row<E>(op.forward, unknown(task)), sums, partials, scale);
    } else if (writes) {
      leave_out_row(op.forward, task);
    }
    const int64_t t = task;
    if (writes) op.grad_log_probs[t] = upstream_of(op, t);
    __syncthreads();  // all of the row has been read, and its results are there
    bool finite = true;
    if (!upstream_overflows(gradient, t)) {
      finite = write_gradient<E, false>(gradient, t, 0, gradient.vocab, scale);
    } else if (writes) {
      lower(&gradient.bad_rows[0], t);
      finite = false;
    }
    if (!finite) lower(&gradient.bad_rows[1], t);
  }
}

__global__ __launch_bounds__(kRowThreads) void upstream_kernel(TokenLogProbsOnePass op) {
  for (int64_t t = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; t < op.forward.tokens;
       t += int64_t{gridDim.x} * kRowThreads)
    op.grad_log_probs[t] = upstream_of(op, t);
}

cudaError_t in_two_passes(const TokenLogProbsOnePass& op, PhaseQueue& queue) {
  cudaError_t error = token_log_probs_forward({op.forward, {}}, queue);
  const int64_t blocks = (op.forward.tokens + kRowThreads - 1) / kRowThreads;
  if (error == cudaSuccess) error = launch_resident(upstream_kernel, blocks, kRowThreads, queue.stream(), op);
  return error == cudaSuccess ? token_log_probs_backward(backward_of(op), queue) : error;
}

// Of `resident` blocks, so many that their rows fit into L2; at least one for each multiprocessor.
cudaError_t leave_in_cache(int64_t row_bytes, int64_t& resident) {
  int device = 0;
  int processors = 0;
  int cache = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device);
  if (error != cudaSuccess || row_bytes == 0) return error;
  const int64_t fit = cache / row_bytes;
  const int64_t most = fit > processors ? fit : processors;
  if (most < resident) resident = most;
  return error;
}

template <class E>
cudaError_t launch_one_pass(const TokenLogProbsOnePass& op, PhaseQueue& queue) {
  const TokenRowsForward& forward = op.forward;
  const auto kernel = forward.entropy != nullptr ? one_pass_kernel<E, true> : one_pass_kernel<E, false>;
  int64_t blocks = 0;
  cudaError_t error = resident_blocks(kernel, kRowThreads, blocks);
  if (error != cudaSuccess) return error;
  if (forward.scratch != nullptr && 2 * forward.tokens <= blocks) return in_two_passes(op, queue);
  error = leave_in_cache(forward.vocab * int64_t{sizeof(typename E::Element)}, blocks);
  if (error != cudaSuccess) return error;
  const Scale scale = scale_of<E::kExactScale>(forward.temperature);
  const TokenRowsBackward gradient = backward_of(op);
  return launch(kernel, forward.tokens < blocks ? forward.tokens : blocks, kRowThreads, queue.stream(), op, gradient,
                scale, pieces_of<E>(forward.vocab));
}

template <class E>
__global__ __launch_bounds__(kRowThreads) void zero_kernel(ZeroRows op) {
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    if (op.row_scale[t] != 0) continue;
    auto* row = static_cast<typename E::Element*>(op.grad_logits) + t * op.grad_row_stride;
    zero_fill(Tile<E>(row, row, op.vocab));
  }
}

}  // namespace

cudaError_t token_log_probs_one_pass(const TokenLogProbsOnePass& op, PhaseQueue& queue) {
  if (op.forward.tokens == 0) return cudaSuccess;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  switch (op.forward.dtype) {
    case DType::kF32:
      return launch_one_pass<F32>(op, queue);
    case DType::kBF16:
      return launch_one_pass<Bf16>(op, queue);
    case DType::kF16:
      return launch_one_pass<F16>(op, queue);
  }
  return cudaErrorInvalidValue;
}

cudaError_t zero_rows(const ZeroRows& op, PhaseQueue& queue) {
  if (op.tokens == 0 || op.vocab == 0) return cudaSuccess;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  const auto kernel = op.dtype == DType::kF32 ? zero_kernel<F32> : zero_kernel<Bf16>;
  return launch_resident(kernel, op.tokens, kRowThreads, queue.stream(), op);
}

}  // namespace rlvr::cuda
