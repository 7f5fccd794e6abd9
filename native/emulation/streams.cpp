#include "emulation/streams.h"

#include <chrono>
#include <map>
#include <set>

#include "emulation/controls.h"
#include "emulation/devices.h"
#include "emulation/pools.h"

namespace rlvr::emulation {
namespace {

using detail::admit;
using detail::device_mutex;
using detail::misuse;
using detail::result;

struct Streams {
  std::set<cudaStream_t> live;
  std::map<int, CUstream_st> defaults;  // by device
  std::map<std::pair<int, std::thread::id>, CUstream_st> per_thread;
  Operations counted{};
  bool async = detail::setting("RLVR_EMULATION_ASYNC", 0) != 0;
};
Streams& streams() {
  static auto* const instance = new Streams;
  return *instance;
}

template <typename F>
void for_each_stream(F visit) {
  for (auto& [device, stream] : streams().defaults) visit(stream);
  for (auto& [thread, stream] : streams().per_thread) visit(stream);
  for (const cudaStream_t stream : streams().live) visit(*stream);
}

// The default stream and the blocking streams of its device wait for each other's earlier work.
bool ordered_by_default_stream(const CUstream_st& a, const CUstream_st& b) {
  return a.device == b.device && a.blocking && b.blocking && a.is_default != b.is_default;
}

void append(detail::Queue& queue, detail::Item item) {
  queue.waiting.push_back(std::move(item));
  ++queue.submitted;
}
// Runs what is ready of the work before the mark: whether that is all.
bool advance(const detail::Mark& mark) {
  while (!mark.reached())
    if (!detail::run_one(*mark.queue)) return false;
  return true;
}
void append_wait(CUstream_st& stream, const detail::Mark& mark) {
  if (!mark.reached()) append(*stream.queue, {[] {}, [mark] { return advance(mark); }});
}
void join_default_stream(CUstream_st& stream) {
  for_each_stream([&](CUstream_st& other) {
    if (ordered_by_default_stream(stream, other)) append_wait(stream, {other.queue, other.queue->submitted});
  });
}

}  // namespace

namespace detail {

Operations& counted() { return streams().counted; }

CUstream_st* find_stream(cudaStream_t handle) {
  const int device = current_device();
  if (handle == cudaStreamPerThread)
    return &streams()
                .per_thread.try_emplace({device, std::this_thread::get_id()}, CUstream_st{device, false, true})
                .first->second;
  if (handle == nullptr || handle == cudaStreamLegacy)
    return &streams().defaults.try_emplace(device, CUstream_st{device, true, true}).first->second;
  return streams().live.count(handle) != 0 ? handle : nullptr;
}

cudaError_t refuse_in_capture(CUstream_st& stream, cudaError_t status, const std::string& what) {
  stream.capture->invalid = true;
  return misuse(status, what + " on a capturing stream");
}

cudaError_t admit(cudaStream_t handle, const char* what, CUstream_st** stream) {
  if (inside_host_function()) return misuse(cudaErrorNotPermitted, std::string(what) + " in a host function");
  *stream = find_stream(handle);
  if (*stream == nullptr)
    return misuse(cudaErrorInvalidResourceHandle, std::string(what) + " on a dead or foreign stream");
  use_context((*stream)->device);
  if ((*stream)->capture != nullptr && (*stream)->capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  bool implicit = false;
  for_each_stream([&](CUstream_st& other) {
    if (!(*stream)->is_default || other.capture == nullptr || !ordered_by_default_stream(**stream, other)) return;
    other.capture->invalid = implicit = true;
  });
  if (implicit)
    return misuse(cudaErrorStreamCaptureImplicit,
                  std::string(what) + " on the default stream while a blocking stream captures");
  return cudaSuccess;
}

bool unsafe_in_capture() {
  bool forbidden = false;
  for_each_stream([&](CUstream_st& stream) {
    if (stream.capture == nullptr || stream.capture->mode == cudaStreamCaptureModeRelaxed) return;
    if (stream.capture->mode != cudaStreamCaptureModeGlobal && stream.capture->thread != std::this_thread::get_id())
      return;
    stream.capture->invalid = forbidden = true;
  });
  return forbidden;
}

bool run_one(Queue& queue) {
  if (queue.waiting.front().ready != nullptr && !queue.waiting.front().ready()) return false;
  const Work work = std::move(queue.waiting.front().work);
  queue.waiting.pop_front();
  work();
  ++queue.done;
  return true;
}
void drain(const Mark& mark) {
  while (!advance(mark)) {
    device_mutex().unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    device_mutex().lock();
  }
}
Mark mark(CUstream_st& stream) {
  join_default_stream(stream);
  return {stream.queue, stream.queue->submitted};
}
void drain(CUstream_st& stream) { drain(mark(stream)); }
void drain_all() {
  std::vector<Mark> marks;
  for_each_stream([&](CUstream_st& stream) { marks.push_back({stream.queue, stream.queue->submitted}); });
  for (const Mark& mark : marks) drain(mark);
}

void submit(CUstream_st& stream, Work work) {
  if (stream.capture != nullptr) {
    stream.capture->nodes.push_back(std::move(work));
    return;
  }
  join_default_stream(stream);
  append(*stream.queue, {std::move(work)});
  if (!streams().async) advance(mark(stream));
}
void submit_when_ready(CUstream_st& stream, std::function<bool()> ready) {
  join_default_stream(stream);
  append(*stream.queue, {[] {}, std::move(ready)});
  if (!streams().async) advance(mark(stream));
}
void submit_wait(CUstream_st& stream, const Mark& mark) { append_wait(stream, mark); }

}  // namespace detail

void set_async(bool async) {
  const std::lock_guard lock(device_mutex());
  if (!async) detail::drain_all();
  streams().async = async;
}
Operations operations() {
  const std::lock_guard lock(device_mutex());
  return streams().counted;
}
int64_t live_streams() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(streams().live.size());
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "a new stream in a host function");
  if (stream == nullptr || flags > cudaStreamNonBlocking) return misuse(cudaErrorInvalidValue, "bad stream flags");
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  *stream = new CUstream_st{detail::current_device(), false, (flags & cudaStreamNonBlocking) == 0};
  streams().live.insert(*stream);
  return result(cudaSuccess);
}
// CUDA returns at once and lets the work finish; no caller can tell that from running it here.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (detail::inside_host_function())
    return misuse(cudaErrorNotPermitted, "destruction of a stream in a host function");
  const std::lock_guard lock(device_mutex());
  if (streams().live.count(stream) == 0)
    return misuse(cudaErrorInvalidResourceHandle, "destruction of a dead or default stream");
  if (stream->capture != nullptr)
    return detail::refuse_in_capture(*stream, cudaErrorStreamCaptureUnsupported, "destruction");
  detail::drain(*stream);
  streams().live.erase(stream);
  delete stream;
  return result(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = admit(handle, "query", &stream); status != cudaSuccess) return status;
  if (stream->capture != nullptr) return detail::refuse_in_capture(*stream, cudaErrorStreamCaptureUnsupported, "query");
  const detail::Mark end = detail::mark(*stream);
  if (!end.reached()) {
    detail::run_one(*stream->queue);
    return result(cudaErrorNotReady);
  }
  detail::release_cached_memory();
  return result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = admit(handle, "synchronisation", &stream); status != cudaSuccess) return status;
  if (stream->capture != nullptr)
    return detail::refuse_in_capture(*stream, cudaErrorStreamCaptureUnsupported, "synchronisation");
  detail::drain(*stream);
  detail::release_cached_memory();
  return result(cudaSuccess);
}
cudaError_t cudaDeviceSynchronize() {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "synchronisation in a host function");
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  bool captures = false;
  for_each_stream([&](CUstream_st& stream) {
    if (stream.capture != nullptr && stream.device == detail::current_device())
      stream.capture->invalid = captures = true;
  });
  if (captures) return misuse(cudaErrorStreamCaptureUnsupported, "synchronisation of a device that captures");
  std::vector<detail::Mark> marks;
  for_each_stream([&](CUstream_st& stream) {
    if (stream.device == detail::current_device()) marks.push_back(detail::mark(stream));
  });
  for (const detail::Mark& mark : marks) detail::drain(mark);
  detail::release_cached_memory();
  return result(cudaSuccess);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = admit(handle, "a host function", &stream); status != cudaSuccess) return status;
  if (function == nullptr) return misuse(cudaErrorInvalidValue, "a null host function");
  detail::submit(*stream, [function, data] { detail::run_host_function(function, data); });
  return result(cudaSuccess);
}
