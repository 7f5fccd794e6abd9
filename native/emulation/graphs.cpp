// Stream capture and graphs: a graph is the list of what was submitted while its stream captured.
#include <set>

#include "emulation/controls.h"
#include "emulation/streams.h"

struct CUgraph_st {
  std::vector<rlvr::emulation::detail::Work> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<rlvr::emulation::detail::Work>> nodes;  // a launch that waits outlives the handle
  rlvr::emulation::detail::Mark last;  // launches of one executable graph come one after the other
};

namespace rlvr::emulation {
namespace {

using detail::device_mutex;
using detail::misuse;
using detail::result;

constexpr unsigned long long kInstantiateFlags = 0xf;

struct Graphs {
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> executables;
};
Graphs& graphs() {
  static auto* const instance = new Graphs;
  return *instance;
}

// The stream of a call that begins, ends or asks for a capture.
cudaError_t capture_stream(cudaStream_t handle, const char* what, CUstream_st** stream) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, std::string(what) + " in a host function");
  *stream = detail::find_stream(handle);
  if (*stream != nullptr) return cudaSuccess;
  return misuse(cudaErrorInvalidResourceHandle, std::string(what) + " on a dead or foreign stream");
}

}  // namespace

int64_t live_graphs() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(graphs().graphs.size() + graphs().executables.size());
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = capture_stream(handle, "capture", &stream); status != cudaSuccess) return status;
  if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed)
    return misuse(cudaErrorInvalidValue, "unknown mode of capture");
  if (stream->is_default) return misuse(cudaErrorStreamCaptureUnsupported, "capture on the default stream");
  if (stream->capture != nullptr) return detail::refuse_in_capture(*stream, cudaErrorIllegalState, "capture");
  stream->capture = std::make_shared<detail::Capture>(detail::Capture{mode, std::this_thread::get_id(), {}});
  return result(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = capture_stream(handle, "end of capture", &stream); status != cudaSuccess)
    return status;
  if (graph == nullptr) return misuse(cudaErrorInvalidValue, "graph into a null pointer");
  *graph = nullptr;
  if (stream->capture == nullptr) return misuse(cudaErrorIllegalState, "end of a capture that has not begun");
  if (stream->capture->mode != cudaStreamCaptureModeRelaxed && stream->capture->thread != std::this_thread::get_id())
    return misuse(cudaErrorStreamCaptureWrongThread, "end of another thread's capture");
  const auto capture = std::move(stream->capture);
  if (capture->invalid) return result(cudaErrorStreamCaptureInvalidated);  // what spoiled it has been counted
  *graph = new CUgraph_st{std::move(capture->nodes)};
  graphs().graphs.insert(*graph);
  return result(cudaSuccess);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t error = capture_stream(handle, "question of capture", &stream); error != cudaSuccess)
    return error;
  if (status == nullptr) return misuse(cudaErrorInvalidValue, "status of a capture into a null pointer");
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return result(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "a new graph in a host function");
  const std::lock_guard lock(device_mutex());
  if (executable == nullptr) return misuse(cudaErrorInvalidValue, "graph into a null pointer");
  if (graphs().graphs.count(graph) == 0) return misuse(cudaErrorInvalidValue, "use of a dead graph");
  if ((flags & ~kInstantiateFlags) != 0) return misuse(cudaErrorInvalidValue, "bad graph flags");
  *executable = new CUgraphExec_st{std::make_shared<const std::vector<detail::Work>>(graph->nodes), {}};
  graphs().executables.insert(*executable);
  return result(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  const std::lock_guard lock(device_mutex());
  CUstream_st* stream = nullptr;
  if (const cudaError_t status = detail::admit(handle, "graph launch", &stream); status != cudaSuccess) return status;
  if (graphs().executables.count(executable) == 0) return misuse(cudaErrorInvalidValue, "launch of a dead graph");
  const bool captures = stream->capture != nullptr;
  if (!captures) detail::submit_wait(*stream, executable->last);
  detail::submit(*stream, [nodes = executable->nodes] {
    for (const detail::Work& node : *nodes) node();
  });
  if (!captures) executable->last = detail::mark(*stream);
  return result(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "destruction of a graph in a host function");
  const std::lock_guard lock(device_mutex());
  if (graphs().graphs.erase(graph) == 0) return misuse(cudaErrorInvalidValue, "destruction of a dead graph");
  delete graph;
  return result(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "destruction of a graph in a host function");
  const std::lock_guard lock(device_mutex());
  if (graphs().executables.erase(executable) == 0)
    return misuse(cudaErrorInvalidValue, "destruction of a dead executable graph");
  delete executable;
  return result(cudaSuccess);
}
