#include "cuda/device_context.h"

#include <algorithm>

namespace rlvr::cuda {
namespace {

constexpr int64_t kSmallestBlock = int64_t{1} << 18;

// A block grows in powers of two, so that batches of similar sizes reuse each other's blocks.
int64_t block_size(int64_t bytes) {
  int64_t size = kSmallestBlock;
  while (size < bytes) size *= 2;
  return size;
}

}  // namespace

std::string describe(cudaError_t error) {
  if (error == cudaSuccess) return {};
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

std::shared_ptr<DeviceContext> DeviceContext::open(int device, bool own_stream, cudaStream_t stream,
                                                   cudaError_t& error) {
  std::shared_ptr<DeviceContext> context(new DeviceContext(device, own_stream, own_stream ? nullptr : stream));
  const DeviceScope scope(device);
  error = context->initialize();
  return error == cudaSuccess ? context : nullptr;
}

cudaError_t DeviceContext::initialize() {
  int device = -1;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  if (device != device_) return cudaErrorInvalidDevice;  // there is no such device to make current
  if (own_stream_) {
    if (const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); error != cudaSuccess)
      return error;
  }
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device_;
  if (const cudaError_t error = cudaMemPoolCreate(&pool_, &properties); error != cudaSuccess) return error;
  // Memory that was given back stays in the pool: a training step reuses what the last one used.
  uint64_t keep = UINT64_MAX;
  return cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep);
}

DeviceContext::~DeviceContext() {
  const DeviceScope scope(device_);
  for (const auto& block : ring_) {
    if (block->passed != nullptr) cudaEventSynchronize(block->passed);
    cudaFreeHost(block->data);
    if (block->passed != nullptr) cudaEventDestroy(block->passed);
  }
  if (own_stream_ && stream_ != nullptr) cudaStreamDestroy(stream_);
  if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
}

cudaError_t DeviceContext::allocate(void*& pointer, int64_t bytes) {
  const DeviceScope scope(device_);
  const int64_t size = std::max<int64_t>(bytes, 1);
  const cudaError_t error = cudaMallocFromPoolAsync(&pointer, static_cast<size_t>(size), pool_, stream_);
  if (error == cudaSuccess)
    allocated_ += size;
  else
    cudaGetLastError();  // reported here; later calls start clean
  return error;
}

void DeviceContext::release(void* pointer, int64_t bytes) {
  if (pointer == nullptr) return;
  const DeviceScope scope(device_);
  cudaFreeAsync(pointer, stream_);
  allocated_ -= std::max<int64_t>(bytes, 1);
}

cudaError_t DeviceContext::take_pinned(PinnedBlock*& block, int64_t bytes) {
  const DeviceScope scope(device_);
  for (size_t i = 0; i < ring_.size(); ++i) {
    PinnedBlock& candidate = *ring_[(next_ + i) % ring_.size()];
    if (candidate.taken || candidate.bytes < bytes || cudaEventQuery(candidate.passed) != cudaSuccess) continue;
    next_ = (next_ + i + 1) % ring_.size();
    candidate.taken = true;
    block = &candidate;
    return cudaSuccess;
  }
  cudaGetLastError();  // "not ready" is an answer, not an error
  return add_pinned(block, bytes);
}

cudaError_t DeviceContext::add_pinned(PinnedBlock*& block, int64_t bytes) {
  auto fresh = std::make_unique<PinnedBlock>();
  fresh->bytes = block_size(bytes);
  cudaError_t error = cudaEventCreateWithFlags(&fresh->passed, cudaEventDisableTiming | cudaEventBlockingSync);
  if (error != cudaSuccess) return error;
  error = cudaHostAlloc(&fresh->data, static_cast<size_t>(fresh->bytes), cudaHostAllocDefault);
  if (error != cudaSuccess) {
    cudaEventDestroy(fresh->passed);
    return error;
  }
  fresh->taken = true;
  block = fresh.get();
  ring_.push_back(std::move(fresh));
  return cudaSuccess;
}

void DeviceContext::give_back(PinnedBlock* block) {
  const DeviceScope scope(device_);
  cudaEventRecord(block->passed, stream_);
  block->taken = false;
}

cudaError_t DeviceContext::synchronize() {
  const DeviceScope scope(device_);
  return cudaStreamSynchronize(stream_);
}

Completion::~Completion() {
  if (event_ == nullptr) return;
  const DeviceScope scope(context_.device());
  cudaEventDestroy(event_);
}

cudaError_t Completion::mark() {
  const DeviceScope scope(context_.device());
  if (event_ == nullptr) {
    const cudaError_t error = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync);
    if (error != cudaSuccess) return error;
  }
  return cudaEventRecord(event_, context_.stream());
}

cudaError_t Completion::wait() {
  const DeviceScope scope(context_.device());
  return cudaEventSynchronize(event_);
}

}  // namespace rlvr::cuda
