// Copies and memsets. Those that CUDA makes without the host (device and pinned memory) are work on a stream.
#include <cstring>

#include "emulation/devices.h"
#include "emulation/memory.h"
#include "emulation/streams.h"

namespace rlvr::emulation {
namespace {

using detail::address_of;
using detail::device_mutex;
using detail::find_allocation;
using detail::misuse;
using detail::result;

// One side of a copy: `height` rows of `width` bytes.
struct Side {
  uint64_t address;
  uint64_t pitch;
  uint64_t width;
  uint64_t height;
  uint64_t extent() const { return pitch * (height - 1) + width; }
};
enum class Place { kPageable, kPinned, kDevice, kOutside, kFreed };

Place place_of(const Side& side) {
  const auto* allocation = find_allocation(side.address);
  if (allocation == nullptr) return Place::kPageable;
  const uint64_t offset = side.address - allocation->first;
  if (offset == allocation->second.bytes) return Place::kPageable;  // just behind it: somebody else's memory
  if (side.extent() > allocation->second.bytes - offset) return Place::kOutside;
  if (allocation->second.freed) return Place::kFreed;
  return allocation->second.pinned ? Place::kPinned : Place::kDevice;
}

const char* refusal(const Side& to, const Side& from, cudaMemcpyKind kind) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return "unknown kind of copy";
  if (to.width > to.pitch || from.width > from.pitch) return "rows of a copy wider than their pitch";
  const Place to_place = place_of(to);
  const Place from_place = place_of(from);
  if (to_place == Place::kOutside || from_place == Place::kOutside) return "copy that leaves its allocation";
  if (to_place == Place::kFreed || from_place == Place::kFreed) return "copy of memory that was freed";
  if (kind == cudaMemcpyDefault) return nullptr;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if ((to_place == Place::kDevice) != to_device)
    return to_device ? "copy to the device into host memory" : "copy to the host into device memory";
  if ((from_place == Place::kDevice) != from_device)
    return from_device ? "copy from the device out of host memory" : "copy from the host out of device memory";
  return nullptr;
}

// Opens the sides that lie in device memory for as long as it lives. Memory that a later free will take is still there.
class Access {
 public:
  explicit Access(const Side& side) {
    const auto* allocation = find_allocation(side.address);
    if (allocation == nullptr || allocation->second.pinned) return;
    if (side.address == allocation->first + allocation->second.bytes) return;
    part_ = detail::granules(side.address, side.extent());
    detail::open(part_);
  }
  ~Access() {
    if (part_.bytes != 0) detail::close(part_);
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  detail::Part part_{0, 0};
};

void copy_now(const Side& to, const Side& from) {
  const Access writes(to);
  const Access reads(from);
  for (uint64_t row = 0; row < to.height; ++row)
    std::memmove(reinterpret_cast<void*>(to.address + row * to.pitch),
                 reinterpret_cast<const void*>(from.address + row * from.pitch), to.width);
}
void set_now(const Side& side, int value) {
  const Access writes(side);
  std::memset(reinterpret_cast<void*>(side.address), value, side.width);
}
// For work on a stream, when it runs.
void check_alive(const Side& side, const char* what) {
  const auto* allocation = find_allocation(side.address);
  if (allocation != nullptr && side.address + side.extent() <= allocation->first + allocation->second.bytes) return;
  detail::die(std::string(what) + ": its memory was freed before it ran");
}

enum class Wait { kNo, kYes };

cudaError_t copy(const Side& to, const Side& from, cudaMemcpyKind kind, cudaStream_t handle, Wait wait) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "copy", &stream); status != cudaSuccess) return status;
  if (wait == Wait::kYes && detail::unsafe_in_capture())
    return misuse(cudaErrorStreamCaptureUnsupported, "a copy that waits during a capture");
  if (to.width == 0 || to.height == 0) return result(cudaSuccess);
  if (to.address == 0 || from.address == 0) return misuse(cudaErrorInvalidValue, "copy with a null pointer");
  if (const char* reason = refusal(to, from, kind)) return misuse(cudaErrorInvalidValue, reason);
  ++detail::counted().copies;
  const bool pageable = place_of(to) == Place::kPageable || place_of(from) == Place::kPageable;
  if (pageable && stream->capture != nullptr)
    return detail::refuse_in_capture(*stream, cudaErrorStreamCaptureUnsupported, "copy of pageable memory");
  if (wait == Wait::kYes || pageable) {
    if (wait == Wait::kYes)
      detail::drain_all();
    else
      detail::drain(*stream);
    copy_now(to, from);
    return result(cudaSuccess);
  }
  detail::submit(*stream, [to, from] {
    check_alive(to, "a copy");
    check_alive(from, "a copy");
    copy_now(to, from);
  });
  return result(cudaSuccess);
}

cudaError_t set(void* pointer, int value, size_t bytes, cudaStream_t handle, Wait wait) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "memset", &stream); status != cudaSuccess) return status;
  if (wait == Wait::kYes && detail::unsafe_in_capture())
    return misuse(cudaErrorStreamCaptureUnsupported, "a memset that waits during a capture");
  if (bytes == 0) return result(cudaSuccess);
  const Side side{address_of(pointer), bytes, bytes, 1};
  const Place place = place_of(side);
  if (place != Place::kDevice && place != Place::kPinned)
    return misuse(cudaErrorInvalidValue, "memset outside device memory");
  ++detail::counted().memsets;
  if (wait == Wait::kYes) {
    detail::drain_all();
    set_now(side, value);
    return result(cudaSuccess);
  }
  detail::submit(*stream, [side, value] {
    check_alive(side, "a memset");
    set_now(side, value);
  });
  return result(cudaSuccess);
}

cudaError_t copy_2d(const Side& to, const Side& from, cudaMemcpyKind kind, cudaStream_t handle, Wait wait) {
  const auto most = static_cast<uint64_t>(detail::trait(Trait::kMaxPitch));
  if (to.pitch > most || from.pitch > most)
    return misuse(cudaErrorInvalidPitchValue, "a 2-D copy whose rows are too far apart");
  {
    const std::lock_guard lock(device_mutex());
    ++detail::counted().copies_2d;
  }
  return copy(to, from, kind, handle, wait);
}

Side flat(const void* pointer, size_t bytes) { return {address_of(pointer), bytes, bytes, 1}; }

}  // namespace
}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy(flat(to, bytes), flat(from, bytes), kind, nullptr, Wait::kYes);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(flat(to, bytes), flat(from, bytes), kind, stream, Wait::kNo);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return copy_2d({address_of(to), to_pitch, width, height}, {address_of(from), from_pitch, width, height}, kind, nullptr,
                 Wait::kYes);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_2d({address_of(to), to_pitch, width, height}, {address_of(from), from_pitch, width, height}, kind, stream,
                 Wait::kNo);
}
cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return set(pointer, value, bytes, nullptr, Wait::kYes);
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  return set(pointer, value, bytes, stream, Wait::kNo);
}
