// Device and pinned memory: exact sizes (so that ASan sees an overflow of one byte), tracked, filled, closed to the
// host.
#include "emulation/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "emulation/controls.h"
#include "emulation/devices.h"
#include "emulation/pools.h"
#include "emulation/streams.h"

#ifdef RLVR_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace rlvr::emulation {
namespace {

using detail::address_of;
using detail::Allocation;
using detail::device_mutex;
using detail::misuse;
using detail::result;

constexpr size_t kAlignment = 256;

using Live = std::map<uint64_t, Allocation>;
struct Memory {
  Live live;
  int64_t bytes = 0;
  int64_t failing_from = 0;  // allocations until they fail; 0: nothing is planned
  bool failing = false;
};
Memory& memory() {
  static auto* const instance = new Memory;  // outlives every static that frees in its destructor
  return *instance;
}

void give_back(Live::iterator found) {
  const uint64_t address = found->first;
  const Allocation allocation = found->second;
  detail::open({address, allocation.bytes});
  memory().bytes -= static_cast<int64_t>(allocation.bytes);
  memory().live.erase(found);
  std::free(reinterpret_cast<void*>(address));
  if (allocation.pool != nullptr) detail::pool_got_back(allocation.pool, allocation.bytes);
}

cudaError_t find_to_free(void* pointer, bool pinned, Live::iterator& found) {
  found = memory().live.find(address_of(pointer));
  if (found == memory().live.end() || found->second.freed)
    return misuse(cudaErrorInvalidValue, "free of a pointer that is not allocated");
  if (found->second.pinned != pinned) return misuse(cudaErrorInvalidValue, "device memory and pinned memory mixed up");
  return cudaSuccess;
}

cudaError_t release(void* pointer, bool pinned) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "free in a host function");
  if (pointer == nullptr) return result(cudaSuccess);
  const std::lock_guard lock(device_mutex());
  Live::iterator found;
  if (const cudaError_t status = find_to_free(pointer, pinned, found); status != cudaSuccess) return status;
  if (detail::unsafe_in_capture()) return misuse(cudaErrorStreamCaptureUnsupported, "free during a capture");
  if (!found->second.stream_ordered) detail::drain_all();
  give_back(found);
  return result(cudaSuccess);
}

// What an allocation may take: no memory that a pool keeps, unless it is from that pool.
uint64_t within_reach(cudaMemPool_t pool) {
  const uint64_t others = detail::cached_bytes() - (pool == nullptr ? 0 : pool->reserved - pool->used);
  const uint64_t taken = static_cast<uint64_t>(memory().bytes) + others;
  const auto total = static_cast<uint64_t>(detail::trait(Trait::kMemory));
  return total - std::min(taken, total);
}

// `like` describes the allocation except for its size; this takes the mutex.
cudaError_t allocate(void** pointer, size_t bytes, Allocation like) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "allocation in a host function");
  if (pointer == nullptr) return misuse(cudaErrorInvalidValue, "allocation into a null pointer");
  *pointer = nullptr;
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  if (bytes == 0) return result(cudaSuccess);
  const std::lock_guard lock(device_mutex());
  Memory& state = memory();
  if (state.failing_from > 0 && --state.failing_from == 0) state.failing = true;
  if (state.failing || bytes > within_reach(like.pool)) return result(cudaErrorMemoryAllocation);
  void* address = nullptr;
  if (posix_memalign(&address, kAlignment, bytes) != 0) return result(cudaErrorMemoryAllocation);
  std::memset(address, detail::fill_byte(), bytes);
  like.bytes = bytes;
  state.live.emplace(address_of(address), like);
  state.bytes += static_cast<int64_t>(bytes);
  if (!like.pinned) detail::close({address_of(address), bytes});
  if (like.pool != nullptr) detail::pool_took(like.pool, bytes);
  *pointer = address;
  return result(cudaSuccess);
}

cudaError_t allocate_unordered(void** pointer, size_t bytes, bool pinned) {
  {
    const std::lock_guard lock(device_mutex());
    if (detail::unsafe_in_capture()) return misuse(cudaErrorStreamCaptureUnsupported, "allocation during a capture");
  }
  return allocate(pointer, bytes, {0, detail::current_device(), pinned});
}

}  // namespace

namespace detail {

const std::pair<const uint64_t, Allocation>* find_allocation(uint64_t address) {
  auto after = memory().live.upper_bound(address);
  if (after == memory().live.begin()) return nullptr;
  const auto& candidate = *--after;
  return address - candidate.first <= candidate.second.bytes ? &candidate : nullptr;
}

Part granules(uint64_t address, uint64_t bytes) {
  const auto& [base, allocation] = *find_allocation(address);
  const uint64_t begin = address / 8 * 8;
  const uint64_t end = std::min((address + bytes + 7) / 8 * 8, base + allocation.bytes);
  return {begin, end - begin};
}
void open([[maybe_unused]] Part part) {
#ifdef RLVR_EMULATION_ASAN
  __asan_unpoison_memory_region(reinterpret_cast<void*>(part.begin), part.bytes);
#endif
}
void close([[maybe_unused]] Part part) {
#ifdef RLVR_EMULATION_ASAN
  __asan_poison_memory_region(reinterpret_cast<void*>(part.begin), part.bytes);
#endif
}
void open_device_memory() {
  for (const auto& [address, allocation] : memory().live) {
    if (allocation.pinned) continue;
    open({address, allocation.bytes});
    for (const auto& [begin, bytes] : allocation.gaps) close({begin, bytes});
  }
}
void close_device_memory() {
  for (const auto& [address, allocation] : memory().live)
    if (!allocation.pinned) close({address, allocation.bytes});
}
bool usable_in_kernel(uint64_t address, bool running) {
  if (address == 0) return true;
  const auto* found = find_allocation(address);
  return found != nullptr && (running || !found->second.freed);
}

}  // namespace detail

int64_t live_allocations() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(memory().live.size());
}
int64_t live_bytes() {
  const std::lock_guard lock(device_mutex());
  return memory().bytes;
}
void watch_gap(void* begin, int64_t bytes) {
  const std::lock_guard lock(device_mutex());
  const auto found = std::prev(memory().live.upper_bound(address_of(begin)));
  found->second.gaps.emplace_back(address_of(begin), static_cast<uint64_t>(bytes));
}
void fail_allocation(int64_t n) {
  const std::lock_guard lock(device_mutex());
  memory().failing_from = n;
  memory().failing = false;
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaMalloc(void** pointer, size_t bytes) { return allocate_unordered(pointer, bytes, false); }
cudaError_t cudaFree(void* pointer) { return release(pointer, false); }
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "allocation", &stream); status != cudaSuccess) return status;
  if (stream->capture != nullptr) return detail::refuse_in_capture(*stream, cudaErrorNotSupported, "allocation");
  ++detail::counted().allocations;
  return allocate(pointer, bytes, {0, stream->device, false, true});
}
cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "allocation", &stream); status != cudaSuccess) return status;
  if (const cudaError_t status = detail::admit_pool(pool, "allocation"); status != cudaSuccess) return status;
  if (stream->capture != nullptr) return detail::refuse_in_capture(*stream, cudaErrorNotSupported, "allocation");
  if (pointer == nullptr) return misuse(cudaErrorInvalidValue, "allocation into a null pointer");
  *pointer = nullptr;
  if (pool->most != 0 && bytes > pool->most - pool->used) return result(cudaErrorMemoryAllocation);
  ++detail::counted().allocations;
  return allocate(pointer, bytes, {0, pool->device, false, true, pool});
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "free", &stream); status != cudaSuccess) return status;
  if (stream->capture != nullptr) return detail::refuse_in_capture(*stream, cudaErrorNotSupported, "free");
  if (pointer == nullptr) return result(cudaSuccess);
  Live::iterator found;
  if (const cudaError_t status = find_to_free(pointer, false, found); status != cudaSuccess) return status;
  ++detail::counted().frees;
  found->second.freed = true;
  detail::submit(*stream, [found] { give_back(found); });
  return result(cudaSuccess);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return allocate_unordered(pointer, bytes, true); }
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) { return allocate_unordered(pointer, bytes, true); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer, true); }

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  *total_bytes = static_cast<size_t>(detail::trait(Trait::kMemory));
  *free_bytes = within_reach(nullptr);
  return result(cudaSuccess);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  const auto* allocation = detail::find_allocation(address_of(pointer));
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, const_cast<void*>(pointer)};
  if (allocation == nullptr || allocation->second.freed ||
      address_of(pointer) == allocation->first + allocation->second.bytes)
    return result(cudaSuccess);
  const bool pinned = allocation->second.pinned;
  void* const address = const_cast<void*>(pointer);
  *attributes = {pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice, allocation->second.device, address,
                 pinned ? address : nullptr};
  return result(cudaSuccess);
}
