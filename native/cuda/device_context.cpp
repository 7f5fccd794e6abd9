#include "cuda/device_context.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

namespace rlvr::cuda {
namespace {

constexpr int64_t kSmallestBlock = int64_t{1} << 18;

// A block grows in powers of two, so that batches of similar sizes reuse each other's blocks.
int64_t block_size(int64_t bytes) {
  int64_t size = kSmallestBlock;
  while (size < bytes) size *= 2;
  return size;
}

// The open contexts of all threads. Each keeps what was freed in a pool of its own, out of reach of the others.
class Contexts {
 public:
  void add(DeviceContext* context) {
    const std::lock_guard lock(mutex_);
    open_.insert(context);
  }
  void remove(DeviceContext* context) {
    const std::lock_guard lock(mutex_);
    open_.erase(context);
  }
  void trim_all(int device) {
    const std::lock_guard lock(mutex_);
    for (DeviceContext* context : open_)
      if (context->device() == device) context->trim();
    cudaGetLastError();  // what could not be had is missed by the allocation that follows
  }

 private:
  std::mutex mutex_;
  std::set<DeviceContext*> open_;
};

Contexts& contexts() {
  static auto* const instance = new Contexts;  // outlives every context
  return *instance;
}

}  // namespace

std::shared_ptr<DeviceContext> DeviceContext::open(int device, std::optional<ForeignStream> foreign,
                                                   std::string& failure) {
  std::shared_ptr<DeviceContext> context(new DeviceContext(device));
  const DeviceScope scope(device);
  failure = context->initialize(std::move(foreign));
  if (!failure.empty()) return nullptr;
  contexts().add(context.get());
  return context;
}

std::string DeviceContext::initialize(std::optional<ForeignStream> foreign) {
  int device = -1;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return describe(error);
  if (device != device_) return describe(cudaErrorInvalidDevice);  // there is no such device to make current
  if (const cudaError_t error = cudaDeviceGetAttribute(&max_pitch_, cudaDevAttrMaxPitch, device); error != cudaSuccess)
    return describe(error);
  if (!foreign) {
    if (const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); error != cudaSuccess)
      return describe(error);
    own_stream_ = true;
    return describe(create_pool());
  }
  cudaEvent_t event = nullptr;
  if (std::string failure = record_stream(foreign->handle, device_, event); !failure.empty()) return failure;
  cudaEventDestroy(event);
  stream_ = foreign->handle;
  owner_ = std::move(foreign->owner);
  return describe(create_pool());
}

cudaError_t DeviceContext::create_pool() {
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
  contexts().remove(this);
  const DeviceScope scope(device_);
  free_what_was_kept();
  for (const auto& block : ring_) {
    if (block->passed != nullptr) cudaEventSynchronize(block->passed);
    cudaFreeHost(block->data);
    if (block->passed != nullptr) cudaEventDestroy(block->passed);
  }
  if (own_stream_ && stream_ != nullptr) cudaStreamDestroy(stream_);
  if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
}

std::string DeviceContext::wait_for(cudaStream_t other) {
  const DeviceScope scope(device_);
  cudaEvent_t event = nullptr;
  if (std::string failure = record_stream(other, device_, event); !failure.empty()) return failure;
  const cudaError_t error = cudaStreamWaitEvent(stream_, event, 0);
  cudaEventDestroy(event);  // the wait keeps what it needs
  return describe(error);
}

cudaError_t DeviceContext::allocate(void*& pointer, int64_t bytes) {
  const DeviceScope scope(device_);
  if (const cudaError_t error = ready(); error != cudaSuccess) return error;
  free_what_was_kept();
  const int64_t size = std::max<int64_t>(bytes, 1);
  cudaError_t error = cudaMallocFromPoolAsync(&pointer, static_cast<size_t>(size), pool_, stream_);
  if (error == cudaErrorMemoryAllocation) {
    contexts().trim_all(device_);
    error = cudaMallocFromPoolAsync(&pointer, static_cast<size_t>(size), pool_, stream_);
  }
  if (error == cudaSuccess)
    allocated_ += size;
  else
    cudaGetLastError();  // reported here; later calls start clean
  return error;
}

void DeviceContext::release(void* pointer, int64_t bytes) {
  if (pointer == nullptr) return;
  const DeviceScope scope(device_);
  const int64_t size = std::max<int64_t>(bytes, 1);
  if (capturing()) {
    kept_.push_back({pointer, size});  // a free would end its owner's capture
    return;
  }
  free_what_was_kept();
  free_now(pointer, size);
}

void DeviceContext::free_now(void* pointer, int64_t bytes) {
  cudaError_t error = cudaFreeAsync(pointer, stream_);
  if (error != cudaSuccess) {  // its stream is gone: nothing tells when its work is done but the end of all work
    cudaDeviceSynchronize();
    error = cudaFree(pointer);
    cudaGetLastError();
  }
  if (error == cudaSuccess) allocated_ -= bytes;
}

void DeviceContext::free_what_was_kept() {
  for (const Released& released : std::exchange(kept_, {})) free_now(released.pointer, released.bytes);
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

cudaError_t DeviceContext::give_back(PinnedBlock* block) {
  const DeviceScope scope(device_);
  const cudaError_t error = capturing() ? cudaErrorStreamCaptureUnsupported : cudaEventRecord(block->passed, stream_);
  block->taken = error != cudaSuccess;
  return error;
}

cudaError_t DeviceContext::synchronize() {
  const DeviceScope scope(device_);
  const cudaError_t error = ready();
  return error == cudaSuccess ? cudaStreamSynchronize(stream_) : error;
}

cudaError_t DeviceContext::trim() {
  const DeviceScope scope(device_);
  const cudaError_t error = synchronize();  // what was released is in use until the stream has passed it
  return error == cudaSuccess ? cudaMemPoolTrimTo(pool_, 0) : error;
}

cudaError_t DeviceContext::wait_event(cudaEvent_t event) {
  const DeviceScope scope(device_);
  const cudaError_t error = ready();
  return error == cudaSuccess ? cudaStreamWaitEvent(stream_, event, 0) : error;
}

cudaError_t DeviceContext::record_event(cudaEvent_t event) {
  const DeviceScope scope(device_);
  const cudaError_t error = ready();
  return error == cudaSuccess ? cudaEventRecord(event, stream_) : error;
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
