#include "cuda/device_memory.h"

#include <utility>

#include "cuda/copy_rows.h"

namespace rlvr::cuda {

std::shared_ptr<DeviceMemory> DeviceMemory::take(std::shared_ptr<DeviceContext> context, int64_t bytes,
                                                 cudaError_t& error) {
  void* pointer = nullptr;
  error = context->allocate(pointer, bytes);
  if (error != cudaSuccess) return nullptr;
  return std::shared_ptr<DeviceMemory>(new DeviceMemory(std::move(context), pointer, bytes, true));
}

std::shared_ptr<DeviceMemory> DeviceMemory::wrap(std::shared_ptr<DeviceContext> context, void* pointer, int64_t bytes,
                                                 std::string& reason) {
  const DeviceScope scope(context->device());
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  const bool on_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  if (error != cudaSuccess) {
    cudaGetLastError();
    reason = describe(error);
  } else if (!on_device) {
    reason = "host memory, or memory that CUDA does not know";
  } else if (attributes.device != context->device()) {
    reason = "memory of device " + std::to_string(attributes.device);
  } else {
    return std::shared_ptr<DeviceMemory>(new DeviceMemory(std::move(context), pointer, bytes, false));
  }
  return nullptr;
}

DeviceMemory::~DeviceMemory() {
  if (owned_) context_->release(pointer_, bytes_);
}

cudaError_t DeviceMemory::copy(const HostMatrix& host, int64_t stride, cudaMemcpyKind kind) {
  if (host.rows == 0 || host.width == 0) return cudaSuccess;
  const DeviceScope scope(context_->device());
  if (const cudaError_t error = context_->ready(); error != cudaSuccess) return error;
  const PitchedRows ours{pointer_, stride * host.size};
  const PitchedRows theirs{host.data, host.stride * host.size};
  const bool down = kind == cudaMemcpyDeviceToHost;
  const cudaError_t error =
      copy_rows(*context_, down ? theirs : ours, down ? ours : theirs, host.width * host.size, host.rows, kind);
  if (error != cudaSuccess) return error;
  Completion completion(*context_);
  const cudaError_t marked = completion.mark();
  return marked == cudaSuccess ? completion.wait() : marked;
}

}  // namespace rlvr::cuda
