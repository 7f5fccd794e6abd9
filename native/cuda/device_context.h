// A device as this package uses it: one stream on which everything is enqueued, a pool of device memory that is taken
// and given back in that stream's order, and pinned blocks for transfers in flight. Nothing here waits for the
// device, except what says so.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/device_scope.h"
#include "cuda/foreign_stream.h"
#include "cuda/runtime.h"

namespace rlvr::cuda {

struct PinnedBlock {
  void* data = nullptr;
  int64_t bytes = 0;
  cudaEvent_t passed = nullptr;  // recorded when the block was given back
  bool taken = false;
};

// A stream of another library, and what keeps it alive.
struct ForeignStream {
  cudaStream_t handle = nullptr;
  std::shared_ptr<void> owner;
};

class DeviceContext {
 public:
  // On another library's stream, or on a new one that does not wait for the default stream. Null and `failure` on an
  // error.
  static std::shared_ptr<DeviceContext> open(int device, std::optional<ForeignStream> foreign, std::string& failure);
  ~DeviceContext();
  DeviceContext(const DeviceContext&) = delete;
  DeviceContext& operator=(const DeviceContext&) = delete;

  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  int64_t allocated_bytes() const { return allocated_; }

  // Whether the stream's owner is capturing it into a graph. Then everything below is refused, and what is released is
  // kept until later.
  bool capturing() const { return !own_stream_ && stream_state(stream_) == StreamState::kCapturing; }
  // Success, or the error of a call on a stream that is being captured.
  cudaError_t ready() const { return capturing() ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }
  // Lets what comes after this wait for what is on a stream of another library now; says why it cannot.
  std::string wait_for(cudaStream_t other);

  // Device memory, at least one byte. Work on the stream may use it at once; release() waits for no one, since whatever
  // was enqueued before it comes first.
  cudaError_t allocate(void*& pointer, int64_t bytes);
  void release(void* pointer, int64_t bytes);

  // A pinned block of at least `bytes`: the oldest one that the stream has passed, else a new one. For one thread.
  cudaError_t take_pinned(PinnedBlock*& block, int64_t bytes);
  // The block may be taken again once the stream has done what was enqueued so far; never, after an error.
  cudaError_t give_back(PinnedBlock* block);
  // The same for a block that the stream has passed.
  void give_back_idle(PinnedBlock* block) { block->taken = false; }

  // Waits for everything enqueued so far. For any thread.
  cudaError_t synchronize();
  // Waits, and gives the device what the pool keeps for later. For any thread.
  cudaError_t trim();

  // Order with another library's events.
  cudaError_t wait_event(cudaEvent_t event);
  cudaError_t record_event(cudaEvent_t event);

  // Bytes from row to row of a 2-D copy, at most.
  int64_t max_pitch() const { return max_pitch_; }

 private:
  explicit DeviceContext(int device) : device_(device) {}
  std::string initialize(std::optional<ForeignStream> foreign);
  cudaError_t create_pool();
  void free_now(void* pointer, int64_t bytes);
  void free_what_was_kept();
  cudaError_t add_pinned(PinnedBlock*& block, int64_t bytes);

  struct Released {
    void* pointer;
    int64_t bytes;
  };

  int device_;
  bool own_stream_ = false;
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<void> owner_;  // of the stream
  cudaMemPool_t pool_ = nullptr;
  int max_pitch_ = 0;
  std::vector<Released> kept_;  // released while the stream was being captured
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
