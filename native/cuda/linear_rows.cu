// See linear_rows.h. Work is dealt out to blocks in tiles of a row, one element per thread and step: next to the
// products these kernels take little time.
#include "cuda/elements.h"
#include "cuda/linear_rows.h"
#include "cuda/platform.h"
#include "cuda/upstream_phase.h"

namespace rlvr::cuda {
namespace {

constexpr int64_t kTile = int64_t{1} << 12;  // elements of a row

int64_t tiles_of(int64_t width) { return (width + kTile - 1) / kTile; }

// Calls each(row, column) for the elements of this block.
template <class Each>
__device__ void for_elements(int64_t rows, int64_t width, int64_t tiles, Each each) {
  for (int64_t task = blockIdx.x; task < rows * tiles; task += gridDim.x) {
    const int64_t row = task / tiles;
    const int64_t begin = task % tiles * kTile;
    const int64_t end = begin + kTile < width ? begin + kTile : width;
    for (int64_t column = begin + threadIdx.x; column < end; column += kRowThreads) each(row, column);
  }
}

__device__ bool left_out(const uint8_t* part, int64_t row) { return part != nullptr && part[row] == 0; }

// 16 bits of either type, as they are.
struct Bits {
  using Element = uint16_t;
  __device__ static uint16_t widen(uint16_t bits) { return bits; }
  __device__ static uint16_t narrow(uint16_t bits) { return bits; }
};

template <class From, class To>
__global__ __launch_bounds__(kRowThreads) void convert_kernel(RowsConverted op, int64_t tiles) {
  const auto* from = static_cast<const typename From::Element*>(op.from.data);
  auto* to = static_cast<typename To::Element*>(op.to);
  for_elements(op.rows, op.width, tiles, [&](int64_t row, int64_t column) {
    const bool zero = left_out(op.part, row);
    to[row * op.to_stride + column] = To::narrow(zero ? 0 : From::widen(from[row * op.from.stride + column]));
  });
}

template <class From, class To>
cudaError_t launch_convert(const RowsConverted& op, cudaStream_t stream) {
  const int64_t tiles = tiles_of(op.width);
  return launch_resident(convert_kernel<From, To>, op.rows * tiles, kRowThreads, stream, op, tiles);
}

template <class E>
__global__ __launch_bounds__(kRowThreads) void write_kernel(RowsWritten op, int64_t tiles) {
  if (op.halt[0] != -1) return;
  auto* to = static_cast<typename E::Element*>(op.to.data);
  const bool in_place = static_cast<const void*>(op.from) == op.to.data;
  for_elements(op.rows, op.width, tiles, [&](int64_t row, int64_t column) {
    float value = 0;
    if (op.from != nullptr && !left_out(op.part, row)) value = op.from[row * op.from_stride + column];
    auto& element = to[row * op.to.stride + column];
    if (op.to.accumulate && !in_place) value += E::widen(element);
    if (!in_place) element = E::narrow(value);
    if (!isfinite(E::widen(element))) lower(op.bad, op.by_column ? column : op.first + row);
  });
}

template <class E>
cudaError_t launch_write(const RowsWritten& op, cudaStream_t stream) {
  const int64_t tiles = tiles_of(op.width);
  return launch_resident(write_kernel<E>, op.rows * tiles, kRowThreads, stream, op, tiles);
}

__global__ __launch_bounds__(kRowThreads) void sum_kernel(ColumnSums op) {
  for (int64_t column = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; column < op.columns;
       column += int64_t{gridDim.x} * kRowThreads) {
    double sum = op.add ? op.sums[column] : 0;
    for (int64_t row = 0; row < op.count; ++row) sum += static_cast<double>(op.rows[row * op.stride + column]);
    op.sums[column] = sum;
    op.rounded[column] = static_cast<float>(sum);
  }
}

__global__ __launch_bounds__(kRowThreads) void part_kernel(LinearLogProbsBackward op, uint8_t* part) {
  const LinearLogits& logits = op.logits;
  for (int64_t t = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; t < logits.tokens;
       t += int64_t{gridDim.x} * kRowThreads) {
    const bool masked = op.bad_rows[0] != -1 || (logits.mask != nullptr && logits.mask[t] == 0);
    const bool wanted = op.grad_log_probs[t] != 0 || (op.grad_entropy != nullptr && op.grad_entropy[t] != 0);
    part[t] = wanted && !masked ? 1 : 0;
  }
}

int64_t blocks_for(int64_t threads) { return (threads + kRowThreads - 1) / kRowThreads; }

}  // namespace

cudaError_t convert_rows(const RowsConverted& op, cudaStream_t stream) {
  if (op.rows == 0 || op.width == 0) return cudaSuccess;
  const DType from = op.from.dtype;
  const DType to = op.to_dtype;
  if (to == from)
    return to == DType::kF32 ? launch_convert<F32, F32>(op, stream) : launch_convert<Bits, Bits>(op, stream);
  if (to == DType::kF32 && from == DType::kBF16) return launch_convert<Bf16, F32>(op, stream);
  if (to == DType::kF32) return launch_convert<F16, F32>(op, stream);
  if (to == DType::kBF16 && from == DType::kF32) return launch_convert<F32, Bf16>(op, stream);
  return cudaErrorInvalidValue;
}

cudaError_t write_rows(const RowsWritten& op, cudaStream_t stream) {
  if (op.rows == 0 || op.width == 0) return cudaSuccess;
  switch (op.to.dtype) {
    case DType::kF32:
      return launch_write<F32>(op, stream);
    case DType::kBF16:
      return launch_write<Bf16>(op, stream);
    case DType::kF16:
      return launch_write<F16>(op, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t sum_columns(const ColumnSums& op, cudaStream_t stream) {
  return launch_resident(sum_kernel, blocks_for(op.columns), kRowThreads, stream, op);
}

cudaError_t find_rows(const LinearLogProbsBackward& op, uint8_t* part, cudaStream_t stream) {
  return launch_resident(part_kernel, blocks_for(op.logits.tokens), kRowThreads, stream, op, part);
}

}  // namespace rlvr::cuda
