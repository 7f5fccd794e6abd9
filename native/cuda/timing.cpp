#include "cuda/timing.h"

namespace rlvr::cuda {
namespace {

// What is created for a measurement, and destroyed after it.
struct Handles {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  ~Handles() {
    if (replay != nullptr) cudaGraphExecDestroy(replay);
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (end != nullptr) cudaEventDestroy(end);
    if (begin != nullptr) cudaEventDestroy(begin);
  }
};

// Runs steps until one fails.
class Steps {
 public:
  cudaError_t error() const { return error_; }
  template <class Step>
  Steps& then(Step step) {
    if (error_ == cudaSuccess) error_ = step();
    return *this;
  }

 private:
  cudaError_t error_ = cudaSuccess;
};

cudaError_t repeat(int times, const std::function<cudaError_t()>& enqueue) {
  for (int i = 0; i < times; ++i)
    if (const cudaError_t error = enqueue(); error != cudaSuccess) return error;
  return cudaSuccess;
}

cudaError_t capture(cudaStream_t stream, int repeats, const std::function<cudaError_t()>& enqueue, Handles& handles) {
  const cudaError_t began = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  if (began != cudaSuccess) return began;
  const cudaError_t enqueued = repeat(repeats, enqueue);
  const cudaError_t ended = cudaStreamEndCapture(stream, &handles.graph);  // also after a failure: the stream goes on
  if (enqueued != cudaSuccess || ended != cudaSuccess) return enqueued != cudaSuccess ? enqueued : ended;
  return cudaGraphInstantiate(&handles.replay, handles.graph, 0);
}

}  // namespace

cudaError_t time_on_device(DeviceContext& context, int repeats, bool as_graph,
                           const std::function<cudaError_t()>& enqueue, double& milliseconds) {
  const DeviceScope scope(context.device());
  const cudaStream_t stream = context.stream();
  Handles handles;
  float elapsed = 0;
  Steps steps;
  steps.then([&] { return cudaEventCreate(&handles.begin); })
      .then([&] { return cudaEventCreate(&handles.end); })
      .then(enqueue)
      .then([&] { return as_graph ? capture(stream, repeats, enqueue, handles) : cudaSuccess; })
      .then([&] { return as_graph ? cudaGraphLaunch(handles.replay, stream) : cudaSuccess; })  // untimed: it uploads
      .then([&] { return cudaStreamSynchronize(stream); })
      .then([&] { return cudaEventRecord(handles.begin, stream); })
      .then([&] { return as_graph ? cudaGraphLaunch(handles.replay, stream) : repeat(repeats, enqueue); })
      .then([&] { return cudaEventRecord(handles.end, stream); })
      .then([&] { return cudaEventSynchronize(handles.end); })
      .then([&] { return cudaEventElapsedTime(&elapsed, handles.begin, handles.end); });
  milliseconds = static_cast<double>(elapsed) / repeats;
  return steps.error();
}

}  // namespace rlvr::cuda
