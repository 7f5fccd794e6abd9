// Device and pinned memory: exact sizes (so that ASan sees an overflow of one byte), tracked, filled, closed to the
// host.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "cuda/emulation/runtime_state.h"

#ifdef RLVR_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace rlvr::emulation {
namespace {

using detail::device_mutex;
using detail::misuse;
using detail::result;

constexpr uint64_t kTotalBytes = uint64_t{16} << 30;
constexpr size_t kAlignment = 256;

struct Allocation {
  uint64_t bytes;
  int device;
  bool pinned;
};

struct Memory {
  std::map<uint64_t, Allocation> live;
  int64_t bytes = 0;
  int64_t allocations_until_failure = 0;
};
Memory& memory() {
  static auto* const instance = new Memory;  // outlives every static that frees in its destructor
  return *instance;
}

uint64_t address_of(const volatile void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// The allocation that an address lies in, or ends.
const std::pair<const uint64_t, Allocation>* find(uint64_t address) {
  auto after = memory().live.upper_bound(address);
  if (after == memory().live.begin()) return nullptr;
  const auto& candidate = *--after;
  return address - candidate.first <= candidate.second.bytes ? &candidate : nullptr;
}

// A part of a device allocation, widened to ASan's granules of 8 bytes but never past the allocation's end.
struct Part {
  uint64_t begin;
  uint64_t bytes;
};
Part granules(uint64_t address, uint64_t bytes) {
  const auto& [base, allocation] = *find(address);
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

cudaError_t allocate(void** pointer, size_t bytes, bool pinned) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "allocation in a host function");
  if (pointer == nullptr) return misuse(cudaErrorInvalidValue, "allocation into a null pointer");
  *pointer = nullptr;
  if (detail::device_count() == 0) return result(cudaErrorNoDevice);
  if (bytes == 0) return result(cudaSuccess);
  const std::lock_guard lock(device_mutex());
  Memory& state = memory();
  if (state.allocations_until_failure > 0 && --state.allocations_until_failure == 0)
    return result(cudaErrorMemoryAllocation);
  if (bytes > kTotalBytes - static_cast<uint64_t>(state.bytes)) return result(cudaErrorMemoryAllocation);
  void* address = nullptr;
  if (posix_memalign(&address, kAlignment, bytes) != 0) return result(cudaErrorMemoryAllocation);
  std::memset(address, detail::fill_byte(), bytes);
  state.live.emplace(address_of(address), Allocation{bytes, detail::current_device(), pinned});
  state.bytes += static_cast<int64_t>(bytes);
  if (!pinned) close({address_of(address), bytes});
  *pointer = address;
  return result(cudaSuccess);
}

cudaError_t release(void* pointer, bool pinned) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "free in a host function");
  if (pointer == nullptr) return result(cudaSuccess);
  const std::lock_guard lock(device_mutex());
  const auto found = memory().live.find(address_of(pointer));
  if (found == memory().live.end()) return misuse(cudaErrorInvalidValue, "free of a pointer that is not allocated");
  if (found->second.pinned != pinned) return misuse(cudaErrorInvalidValue, "device memory and pinned memory mixed up");
  open({found->first, found->second.bytes});
  memory().bytes -= static_cast<int64_t>(found->second.bytes);
  memory().live.erase(found);
  std::free(pointer);
  return result(cudaSuccess);
}

// One side of a copy: `height` rows of `width` bytes.
struct Side {
  uint64_t address;
  uint64_t pitch;
  uint64_t width;
  uint64_t height;
  uint64_t extent() const { return pitch * (height - 1) + width; }
};
enum class Place { kHost, kDevice, kOutside };

Place place_of(const Side& side) {
  const auto* allocation = find(side.address);
  if (allocation == nullptr) return Place::kHost;
  const uint64_t offset = side.address - allocation->first;
  if (offset == allocation->second.bytes) return Place::kHost;  // just behind it: somebody else's memory
  if (side.extent() > allocation->second.bytes - offset) return Place::kOutside;
  return allocation->second.pinned ? Place::kHost : Place::kDevice;
}

const char* refusal(const Side& to, const Side& from, cudaMemcpyKind kind) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return "unknown kind of copy";
  if (to.width > to.pitch || from.width > from.pitch) return "rows of a copy wider than their pitch";
  const Place to_place = place_of(to);
  const Place from_place = place_of(from);
  if (to_place == Place::kOutside || from_place == Place::kOutside) return "copy that leaves its allocation";
  if (kind == cudaMemcpyDefault) return nullptr;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if ((to_place == Place::kDevice) != to_device)
    return to_device ? "copy to the device into host memory" : "copy to the host into device memory";
  if ((from_place == Place::kDevice) != from_device)
    return from_device ? "copy from the device out of host memory" : "copy from the host out of device memory";
  return nullptr;
}

cudaError_t copy(const Side& to, const Side& from, cudaMemcpyKind kind, cudaStream_t stream) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "copy in a host function");
  const std::lock_guard lock(device_mutex());
  if (!detail::valid_stream(stream)) return misuse(cudaErrorInvalidResourceHandle, "copy on a dead or foreign stream");
  if (to.width == 0 || to.height == 0) return result(cudaSuccess);
  if (to.address == 0 || from.address == 0) return misuse(cudaErrorInvalidValue, "copy with a null pointer");
  if (const char* reason = refusal(to, from, kind)) return misuse(cudaErrorInvalidValue, reason);
  for (const Side& side : {to, from})
    if (place_of(side) == Place::kDevice) open(granules(side.address, side.extent()));
  for (uint64_t row = 0; row < to.height; ++row)
    std::memmove(reinterpret_cast<void*>(to.address + row * to.pitch),
                 reinterpret_cast<const void*>(from.address + row * from.pitch), to.width);
  for (const Side& side : {to, from})
    if (place_of(side) == Place::kDevice) close(granules(side.address, side.extent()));
  return result(cudaSuccess);
}

}  // namespace

void detail::open_device_memory() {
  for (const auto& [address, allocation] : memory().live)
    if (!allocation.pinned) open({address, allocation.bytes});
}
void detail::close_device_memory() {
  for (const auto& [address, allocation] : memory().live)
    if (!allocation.pinned) close({address, allocation.bytes});
}
bool detail::usable_in_kernel(uint64_t address) { return address == 0 || find(address) != nullptr; }

int64_t live_allocations() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(memory().live.size());
}
int64_t live_bytes() {
  const std::lock_guard lock(device_mutex());
  return memory().bytes;
}
void fail_allocation(int64_t n) {
  const std::lock_guard lock(device_mutex());
  memory().allocations_until_failure = n;
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaMalloc(void** pointer, size_t bytes) { return allocate(pointer, bytes, false); }
cudaError_t cudaFree(void* pointer) { return release(pointer, false); }
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  if (const cudaError_t status = cudaStreamQuery(stream); status != cudaSuccess) return status;
  return allocate(pointer, bytes, false);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (const cudaError_t status = cudaStreamQuery(stream); status != cudaSuccess) return status;
  return release(pointer, false);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return allocate(pointer, bytes, true); }
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) { return allocate(pointer, bytes, true); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer, true); }

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({address_of(to), bytes, bytes, 1}, {address_of(from), bytes, bytes, 1}, kind, stream);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, nullptr);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({address_of(to), to_pitch, width, height}, {address_of(from), from_pitch, width, height}, kind, stream);
}
cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "memset in a host function");
  const std::lock_guard lock(device_mutex());
  if (!detail::valid_stream(stream))
    return misuse(cudaErrorInvalidResourceHandle, "memset on a dead or foreign stream");
  if (bytes == 0) return result(cudaSuccess);
  const Side side{address_of(pointer), bytes, bytes, 1};
  const auto* allocation = find(side.address);
  if (allocation == nullptr || side.address + bytes > allocation->first + allocation->second.bytes)
    return misuse(cudaErrorInvalidValue, "memset outside device memory");
  const bool device = !allocation->second.pinned;
  if (device) open(granules(side.address, bytes));
  std::memset(pointer, value, bytes);
  if (device) close(granules(side.address, bytes));
  return result(cudaSuccess);
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  if (detail::device_count() == 0) return result(cudaErrorNoDevice);
  *total_bytes = kTotalBytes;
  *free_bytes = kTotalBytes - static_cast<uint64_t>(live_bytes());
  return result(cudaSuccess);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const std::lock_guard lock(device_mutex());
  const auto* allocation = find(address_of(pointer));
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, const_cast<void*>(pointer)};
  if (allocation == nullptr || address_of(pointer) == allocation->first + allocation->second.bytes)
    return result(cudaSuccess);
  const bool pinned = allocation->second.pinned;
  void* const address = const_cast<void*>(pointer);
  *attributes = {pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice, allocation->second.device, address,
                 pinned ? address : nullptr};
  return result(cudaSuccess);
}
