#include "emulation/streams_of_others.h"

#include "emulation/memory.h"
#include "emulation/streams.h"

namespace rlvr::emulation {
namespace {

int put(void* handle, StepOfOthers step, void* data) {
  const std::lock_guard lock(detail::device_mutex());
  CUstream_st* stream = nullptr;
  const auto status = detail::admit(static_cast<cudaStream_t>(handle), "a step of a library", &stream);
  if (status != cudaSuccess) return status;
  detail::submit_when_ready(*stream, [step, data] {
    detail::open_device_memory();
    const bool done = step(data) != 0;
    detail::close_device_memory();
    return done;
  });
  return detail::result(cudaSuccess);
}

}  // namespace

bool offer_streams(void* taker) {
  if (taker != nullptr) reinterpret_cast<void (*)(PutStep)>(taker)(put);
  return taker != nullptr;
}

}  // namespace rlvr::emulation
