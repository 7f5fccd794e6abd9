// A device as this package uses it: one stream on which everything is enqueued, a pool of device memory that is taken
// and given back in that stream's order, and pinned blocks for transfers in flight. Nothing here waits for the
// device, except what says so.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device_scope.h"
#include "cuda/runtime.h"

namespace rlvr::cuda {

// "name: what it means", or empty for success.
std::string describe(cudaError_t error);

struct PinnedBlock {
  void* data = nullptr;
  int64_t bytes = 0;
  cudaEvent_t passed = nullptr;  // recorded when the block was given back
  bool taken = false;
};

class DeviceContext {
 public:
  // On the caller's stream, or (own_stream) on a new one that does not wait for the default stream. Null on an error.
  static std::shared_ptr<DeviceContext> open(int device, bool own_stream, cudaStream_t stream, cudaError_t& error);
  ~DeviceContext();
  DeviceContext(const DeviceContext&) = delete;
  DeviceContext& operator=(const DeviceContext&) = delete;

  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  int64_t allocated_bytes() const { return allocated_; }

  // Device memory, at least one byte. Work on the stream may use it at once; release() waits for no one, since whatever
  // was enqueued before it comes first.
  cudaError_t allocate(void*& pointer, int64_t bytes);
  void release(void* pointer, int64_t bytes);

  // A pinned block of at least `bytes`: the oldest one that the stream has passed, else a new one. For one thread.
  cudaError_t take_pinned(PinnedBlock*& block, int64_t bytes);
  // The block may be taken again once the stream has done what was enqueued so far.
  void give_back(PinnedBlock* block);

  // Waits for everything enqueued so far. For any thread.
  cudaError_t synchronize();

 private:
  DeviceContext(int device, bool own_stream, cudaStream_t stream)
      : device_(device), own_stream_(own_stream), stream_(stream) {}
  cudaError_t initialize();
  cudaError_t add_pinned(PinnedBlock*& block, int64_t bytes);

  int device_;
  bool own_stream_;
  cudaStream_t stream_;
  cudaMemPool_t pool_ = nullptr;
  std::atomic<int64_t> allocated_{0};
  std::vector<std::unique_ptr<PinnedBlock>> ring_;
  size_t next_ = 0;  // where the ring is looked at first
};

// Waits on an event of its own: for what was enqueued until mark().
class Completion {
 public:
  explicit Completion(DeviceContext& context) : context_(context) {}
  ~Completion();
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;
  cudaError_t mark();
  cudaError_t wait();

 private:
  DeviceContext& context_;
  cudaEvent_t event_ = nullptr;
};

}  // namespace rlvr::cuda
