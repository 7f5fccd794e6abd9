// The stream of a device, and the phases that wait for those that follow them, to be launched together.
#pragma once

#include "cuda/device_context.h"
#include "cuda/phases.h"

namespace rlvr::cuda {

class PhaseQueue {
 public:
  explicit PhaseQueue(DeviceContext& context) : context_(context) {}

  cudaError_t add(const Phase& phase);
  // Launches those that wait. To be called before anything else is enqueued.
  cudaError_t flush();
  cudaStream_t stream() const { return context_.stream(); }
  DeviceContext& context() const { return context_; }

 private:
  DeviceContext& context_;
  Phases waiting_{};
};

}  // namespace rlvr::cuda
