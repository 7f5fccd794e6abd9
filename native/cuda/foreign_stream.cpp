#include "cuda/foreign_stream.h"

namespace rlvr::cuda {

std::string describe(cudaError_t error) {
  if (error == cudaSuccess) return {};
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

StreamState stream_state(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream, &status) != cudaSuccess) {
    cudaGetLastError();  // the answer says it
    return StreamState::kUnknown;
  }
  return status == cudaStreamCaptureStatusNone ? StreamState::kLive : StreamState::kCapturing;
}

std::string record_stream(cudaStream_t stream, int device, cudaEvent_t& event) {
  const std::string expected = "stream: expected a live stream of device " + std::to_string(device) + ", got ";
  const StreamState state = stream_state(stream);
  if (state == StreamState::kCapturing) return expected + "one under capture, where no memory can be allocated";
  if (state == StreamState::kUnknown) return expected + "one that CUDA does not know, or may not touch now";
  const unsigned flags = cudaEventDisableTiming;
  cudaError_t error = cudaEventCreateWithFlags(&event, flags);
  if (error != cudaSuccess) return describe(error);
  error = cudaEventRecord(event, stream);  // an event can only be recorded on a stream of its own device
  if (error == cudaSuccess) return {};
  cudaGetLastError();
  cudaEventDestroy(event);
  event = nullptr;
  return expected + (error == cudaErrorInvalidResourceHandle ? "one of another device" : describe(error));
}

}  // namespace rlvr::cuda
