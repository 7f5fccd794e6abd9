#include <chrono>
#include <set>

#include "emulation/controls.h"
#include "emulation/devices.h"
#include "emulation/pools.h"
#include "emulation/streams.h"

namespace rlvr::emulation {
namespace {

using Clock = std::chrono::steady_clock;

// One record of an event. Whoever waits for it keeps it, so that the event may be recorded again or destroyed.
struct Record {
  detail::Mark mark;
  std::shared_ptr<detail::Capture> capture;  // of the stream, if it captured
  Clock::time_point when;
};

}  // namespace
}  // namespace rlvr::emulation

struct CUevent_st {
  int device;
  bool timed;
  std::shared_ptr<rlvr::emulation::Record> record;  // null: never recorded
};

namespace rlvr::emulation {
namespace {

using detail::device_mutex;
using detail::misuse;
using detail::result;

std::set<cudaEvent_t>& events() {
  static auto* const instance = new std::set<cudaEvent_t>;
  return *instance;
}
bool live(cudaEvent_t event) { return events().count(event) != 0; }

int64_t records_to_failure = 0;  // 0: none fails

// What a query of an event and a wait for it check.
cudaError_t admit_event(cudaEvent_t event, const char* what) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, std::string(what) + " in a host function");
  if (!live(event)) return misuse(cudaErrorInvalidResourceHandle, std::string(what) + " of a dead event");
  if (event->record != nullptr && event->record->capture != nullptr) {
    event->record->capture->invalid = true;
    return misuse(cudaErrorCapturedEvent, std::string(what) + " of an event that a capture recorded");
  }
  if (detail::unsafe_in_capture())
    return misuse(cudaErrorStreamCaptureUnsupported, std::string(what) + " of an event during a capture");
  return cudaSuccess;
}

}  // namespace

int64_t live_events() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(events().size());
}

void fail_record(int64_t n) {
  const std::lock_guard lock(device_mutex());
  records_to_failure = n;
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "a new event in a host function");
  if (event == nullptr) return misuse(cudaErrorInvalidValue, "event into a null pointer");
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  *event = new CUevent_st{detail::current_device(), (flags & cudaEventDisableTiming) == 0, nullptr};
  events().insert(*event);
  return result(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (detail::inside_host_function())
    return misuse(cudaErrorNotPermitted, "destruction of an event in a host function");
  const std::lock_guard lock(device_mutex());
  if (events().erase(event) == 0) return misuse(cudaErrorInvalidResourceHandle, "destruction of a dead event");
  delete event;
  return result(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "record", &stream); status != cudaSuccess) return status;
  if (!live(event)) return misuse(cudaErrorInvalidResourceHandle, "record of a dead event");
  // No misuse: whose stream a handle is can be found out this way.
  if (event->device != stream->device) return result(cudaErrorInvalidResourceHandle);
  if (records_to_failure > 0 && --records_to_failure == 0) return result(cudaErrorUnknown);
  event->record = std::make_shared<Record>(Record{{}, stream->capture, {}});
  if (stream->capture != nullptr) return result(cudaSuccess);  // orders captured work, and there is one line of it
  detail::submit(*stream, [record = event->record] { record->when = Clock::now(); });
  event->record->mark = detail::mark(*stream);
  return result(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(device_mutex());
  if (const cudaError_t status = admit_event(event, "query"); status != cudaSuccess) return status;
  if (event->record != nullptr && !event->record->mark.reached()) {
    detail::run_one(*event->record->mark.queue);
    return result(cudaErrorNotReady);
  }
  detail::release_cached_memory();
  return result(cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(device_mutex());
  if (const cudaError_t status = admit_event(event, "synchronisation"); status != cudaSuccess) return status;
  if (event->record != nullptr) detail::drain(event->record->mark);
  detail::release_cached_memory();
  return result(cudaSuccess);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(device_mutex());
  for (const cudaEvent_t event : {start, end}) {
    if (const cudaError_t status = admit_event(event, "time"); status != cudaSuccess) return status;
    if (!event->timed || event->record == nullptr) return result(cudaErrorInvalidResourceHandle);
  }
  if (!start->record->mark.reached() || !end->record->mark.reached()) return result(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->record->when - start->record->when).count();
  return result(cudaSuccess);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "wait for an event", &stream); status != cudaSuccess)
    return status;
  if (!live(event)) return misuse(cudaErrorInvalidResourceHandle, "wait for a dead event");
  if (event->record == nullptr) return result(cudaSuccess);
  const auto& capture = event->record->capture;
  if (stream->capture != nullptr) {
    if (capture == stream->capture) return result(cudaSuccess);
    return detail::refuse_in_capture(*stream, cudaErrorStreamCaptureIsolation, "wait for an event outside the capture");
  }
  if (capture != nullptr) {  // in CUDA the stream would join the capture
    capture->invalid = true;
    return misuse(cudaErrorNotSupported, "a capture of more than one stream");
  }
  detail::submit_wait(*stream, event->record->mark);
  return result(cudaSuccess);
}
