// See transfer.h. Blocks are dealt out to the arrays in turn; 16 bytes per thread and step, then the odd bytes.
#include "cuda/platform.h"
#include "cuda/transfer.h"

namespace rlvr::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kBytesPerBlock = int64_t{1} << 14;
constexpr int64_t kMaxBlocksPerItem = 32;

__global__ __launch_bounds__(kThreads) void transfer_kernel(Transfers transfers, int64_t blocks_per_item) {
  const Transfer item = transfers.items[blockIdx.x / blocks_per_item];
  const int64_t first = static_cast<int64_t>(blockIdx.x) % blocks_per_item * kThreads + threadIdx.x;
  const int64_t step = blocks_per_item * kThreads;
  const int64_t vectors = item.bytes / static_cast<int64_t>(sizeof(uint4));
  const auto* from = static_cast<const uint4*>(item.from);
  auto* to = static_cast<uint4*>(item.to);
  for (int64_t i = first; i < vectors; i += step) to[i] = from == nullptr ? uint4{0, 0, 0, 0} : from[i];
  const auto* from_bytes = static_cast<const uint8_t*>(item.from);
  auto* to_bytes = static_cast<uint8_t*>(item.to);
  for (int64_t i = vectors * static_cast<int64_t>(sizeof(uint4)) + first; i < item.bytes; i += step)
    to_bytes[i] = from == nullptr ? uint8_t{0} : from_bytes[i];
}

}  // namespace

cudaError_t find_kernels() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, transfer_kernel);
}

cudaError_t transfer(const Transfers& transfers, cudaStream_t stream) {
  int64_t largest = 0;
  for (int i = 0; i < transfers.count; ++i)
    largest = transfers.items[i].bytes > largest ? transfers.items[i].bytes : largest;
  if (largest == 0) return cudaSuccess;
  const int64_t wanted = (largest + kBytesPerBlock - 1) / kBytesPerBlock;
  const int64_t blocks_per_item = wanted < kMaxBlocksPerItem ? wanted : kMaxBlocksPerItem;
  return launch(transfer_kernel, transfers.count * blocks_per_item, kThreads, stream, transfers, blocks_per_item);
}

}  // namespace rlvr::cuda
