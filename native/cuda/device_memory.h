// A piece of device memory: taken from a context's pool and given back in the stream's order, or another library's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cuda/device_context.h"
#include "cuda/session.h"

namespace rlvr::cuda {

class DeviceMemory {
 public:
  // `bytes` of a pool's memory; null and `error` when there is not enough.
  static std::shared_ptr<DeviceMemory> take(std::shared_ptr<DeviceContext> context, int64_t bytes, cudaError_t& error);
  // Memory of another library, which stays its owner. Null and `reason` unless it is memory of this device.
  static std::shared_ptr<DeviceMemory> wrap(std::shared_ptr<DeviceContext> context, void* pointer, int64_t bytes,
                                            std::string& reason);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  const std::shared_ptr<DeviceContext>& context() const { return context_; }
  void* pointer() const { return pointer_; }
  int64_t bytes() const { return bytes_; }
  bool owned() const { return owned_; }

  // Copies rows of host memory to rows of this one (its row r at element r * stride), or back, and waits. For any
  // thread.
  cudaError_t write(const HostMatrix& host, int64_t stride) { return copy(host, stride, cudaMemcpyHostToDevice); }
  cudaError_t read(const HostMatrix& host, int64_t stride) { return copy(host, stride, cudaMemcpyDeviceToHost); }

 private:
  DeviceMemory(std::shared_ptr<DeviceContext> context, void* pointer, int64_t bytes, bool owned)
      : context_(std::move(context)), pointer_(pointer), bytes_(bytes), owned_(owned) {}
  cudaError_t copy(const HostMatrix& host, int64_t stride, cudaMemcpyKind kind);

  std::shared_ptr<DeviceContext> context_;
  void* pointer_;
  int64_t bytes_;
  bool owned_;
};

}  // namespace rlvr::cuda
