// token-log-probs on the GPU; formulas in ops/token_log_probs.h, spec section 2.
//
// Forward: a row is a block's, blocks persistent over rows, and is read once (row_sums.h). The sums of its warps meet
// in shared memory, and the warp with the largest element finishes the row while the others begin the next. Where the
// device has room for twice as many blocks as there are rows, each piece of a row is a block's, and the last of them to
// be done adds up what all have left in memory: in the same order, so to the same bits. Masked rows are not touched.
// Offsets are 64-bit.
// Backward: tiles of a row, elementwise given logsumexp and the upstream gradient (logits_gradient.h); reads and writes
// each element once, in place or not; rows without gradient are zero-filled without being read.
// Neither depends on how many blocks there are: those are as many as the device can hold.
// Both of a row in one kernel: one_pass.cu. Rows of which only some ids count: replay.cu.
#include "cuda/forward_row.h"
#include "cuda/launch_phase.h"
#include "cuda/logits_gradient.h"
#include "cuda/ops.h"
#include "cuda/replay.h"
#include "cuda/upstream_phase.h"

namespace rlvr::cuda {
namespace {

// Elements of a row per backward block, 64 KiB: enough to pay for the row's constants.
template <class E>
constexpr int64_t kTile = (int64_t{1} << 14) * E::kPerWord;

// Rows of which each piece may be a block's, at most: half of what the largest devices hold.
constexpr int64_t kMostSplitRows = 256;

// What the scratch memory holds: how many blocks have left their sums of a row [T], and those sums [T, pieces].
struct Scratch {
  static constexpr int64_t kAlignment = 256;

  static int64_t counts_bytes(int64_t tokens) {
    return (tokens * int64_t{sizeof(unsigned)} + kAlignment - 1) / kAlignment * kAlignment;
  }

  unsigned* counts;
  uint32_t* sums;

  static Scratch of(const TokenRowsForward& op) {
    if (op.scratch == nullptr) return {nullptr, nullptr};
    auto* bytes = static_cast<unsigned char*>(op.scratch);
    return {reinterpret_cast<unsigned*>(bytes), reinterpret_cast<uint32_t*>(bytes + counts_bytes(op.tokens))};
  }
};

// How rows are dealt out to blocks: a row has `pieces`, and is one task, or one for each piece. Of few rows, so that
// 32 bits number all tasks.
struct Deal {
  int pieces;
  unsigned parts;
  unsigned tasks;
  Scratch scratch;

  __device__ unsigned task(unsigned turn) const { return turn * gridDim.x + blockIdx.x; }
};

// Leaves a block's sums of a piece of row t to the last block of the row to come here, which takes them all.
template <class Sums>
__device__ bool last_of_row(Sums& sums, const Deal& deal, int64_t t, unsigned part) {
  uint32_t* row = deal.scratch.sums + t * deal.pieces * Sums::kWords;
  sums.store(row + int64_t{part} * Sums::kWords);
  __threadfence();
  __syncthreads();
  const unsigned most = deal.parts - 1;
  const bool last = threadIdx.x == 0 && atomicInc(&deal.scratch.counts[t], most) == most;  // and back to 0
  if (__syncthreads_or(last ? 1 : 0) == 0) return false;
  __threadfence();
  sums.load_pieces(row, deal.pieces);
  return true;
}

template <class E, bool kEntropy>
__global__ __launch_bounds__(kRowThreads, kResident) void forward_kernel(TokenRowsForward op, Scale scale,
                                                                         Deal deal) {
  using BlockSums = RowSums<E, kEntropy>;
  __shared__ RowPartials partials[2];  // of two rows in turn, so that one barrier per row is enough
  __shared__ uint32_t words[BlockSums::kWords];
  for (unsigned turn = 0; deal.task(turn) < deal.tasks; ++turn) {
    BlockSums sums(scale.base);
    {
      const unsigned task = deal.task(turn);
      const Row<E> row(op, task / deal.parts);
      const unsigned part = task % deal.parts;
      if (!readable(op, row.t)) {
        if (part == 0 && threadIdx.x == 0) leave_out_row(op, row.t);
        __syncthreads();  // as for any row
        continue;
      }
      sums.add_pieces(row.elements, row.split, {static_cast<int>(part), deal.parts > 1, deal.pieces}, words);
    }
    const unsigned task = deal.task(unknown(turn));
    const Row<E> row(op, task / deal.parts);
    if (deal.parts > 1 && !last_of_row(sums, deal, row.t, task % deal.parts)) continue;
    end_row<E, kEntropy>(op, row, sums, partials[turn % 2], scale);
  }
}

__global__ __launch_bounds__(kSequenceThreads) void upstream_kernel(UpstreamCheck phase) { run_phase(phase); }

template <class E, bool kEntropy>
__global__ __launch_bounds__(kRowThreads, kResident) void backward_kernel(TokenLogProbsBackward op, unsigned tiles,
                                                                          Scale scale) {
  if ((op.halt != nullptr && op.halt[0] != 0) || op.bad_rows[0] != -1) return;
  // Tile blockIdx.x, and every gridDim.x-th after it, of `tiles` per row.
  unsigned tile = blockIdx.x % tiles;
  for (int64_t t = blockIdx.x / tiles; t < op.tokens; t += gridDim.x / tiles) {
    const int64_t begin = tile * kTile<E>;
    const int64_t left = op.vocab - begin;
    const int64_t count = left < kTile<E> ? left : kTile<E>;
    if (!write_gradient<E, kEntropy>(op, t, begin, count, scale)) lower(&op.bad_rows[1], t);
    tile += gridDim.x % tiles;
    if (tile < tiles) continue;
    tile -= tiles;
    ++t;
  }
}

template <class E>
cudaError_t launch_forward(const TokenRowsForward& op, cudaStream_t stream) {
  const auto kernel = op.entropy != nullptr ? forward_kernel<E, true> : forward_kernel<E, false>;
  int64_t blocks = 0;
  const cudaError_t error = resident_blocks(kernel, kRowThreads, blocks);
  if (error != cudaSuccess) return error;
  const int pieces = pieces_of<E>(op.vocab);
  const bool shared = op.scratch != nullptr && 2 * op.tokens <= blocks;
  const int64_t parts = shared ? pieces : 1;
  const int64_t tasks = op.tokens * parts;
  const Deal deal{pieces, static_cast<unsigned>(parts), static_cast<unsigned>(tasks), Scratch::of(op)};
  const Scale scale = scale_of<E::kExactScale>(op.temperature);
  return launch(kernel, tasks < blocks ? tasks : blocks, kRowThreads, stream, op, scale, deal);
}

template <class E>
cudaError_t launch_backward(const TokenLogProbsBackward& op, cudaStream_t stream) {
  const auto tiles = static_cast<unsigned>((op.vocab + kTile<E> - 1) / kTile<E>);
  const auto kernel = op.grad_entropy != nullptr ? backward_kernel<E, true> : backward_kernel<E, false>;
  const Scale scale = scale_of<E::kExactScale>(op.temperature);
  return launch_resident(kernel, op.tokens * tiles, kRowThreads, stream, op, tiles, scale);
}

cudaError_t all_forward(const TokenRowsForward& op, cudaStream_t stream) {
  switch (op.dtype) {
    case DType::kF32:
      return launch_forward<F32>(op, stream);
    case DType::kBF16:
      return launch_forward<Bf16>(op, stream);
    case DType::kF16:
      return launch_forward<F16>(op, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t all_backward(const TokenLogProbsBackward& op, cudaStream_t stream) {
  switch (op.dtype) {
    case DType::kF32:
      return launch_backward<F32>(op, stream);
    case DType::kBF16:
      return launch_backward<Bf16>(op, stream);
    case DType::kF16:
      return launch_backward<F16>(op, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

ScratchBytes token_log_probs_scratch(const TokenLogProbsForward& op) {
  const int pieces = op.dtype == DType::kF32 ? pieces_of<F32>(op.vocab) : pieces_of<Bf16>(op.vocab);
  if (op.tokens == 0 || op.tokens > kMostSplitRows || pieces == 1) return {0, 0};
  const int words = op.entropy != nullptr ? RowSums<F32, true>::kWords : RowSums<F32, false>::kWords;
  const int64_t counts = Scratch::counts_bytes(op.tokens);
  return {counts + op.tokens * pieces * words * int64_t{sizeof(uint32_t)}, counts};
}

cudaError_t token_log_probs_forward(const TokenLogProbsForward& op, PhaseQueue& queue) {
  if (op.tokens == 0) return cudaSuccess;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  TokenRowsForward whole = op;
  if (op.replay.cu_kept != nullptr) whole.mask = op.kept;
  cudaError_t error = replay_mask(op, queue.stream());
  if (error == cudaSuccess) error = all_forward(whole, queue.stream());
  return error == cudaSuccess ? replay_forward(op, queue.stream()) : error;
}

cudaError_t check_upstream(const TokenLogProbsBackward& op, PhaseQueue& queue) {
  const UpstreamCheck check{op};
  if (op.tokens > kSmallTokens) return launch_phase(upstream_kernel, check, (op.tokens + kWarp - 1) / kWarp, queue);
  return queue.add({Phase::Kind::kUpstreamCheck, {.upstream_check = check}});
}

cudaError_t token_log_probs_backward(const TokenLogProbsBackward& op, PhaseQueue& queue) {
  if (op.tokens == 0 || op.vocab == 0) return cudaSuccess;
  if (const cudaError_t error = check_upstream(op, queue); error != cudaSuccess) return error;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  cudaError_t error = replay_gradients(op, queue.stream());
  if (error == cudaSuccess) error = all_backward(op, queue.stream());
  return error == cudaSuccess ? replay_scatter(op, queue.stream()) : error;
}

}  // namespace rlvr::cuda
