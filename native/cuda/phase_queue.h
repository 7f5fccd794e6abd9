// A stream, and the phases that wait for those that follow them, to be launched together.
#pragma once

#include "cuda/phases.h"
#include "cuda/runtime.h"

namespace rlvr::cuda {

class PhaseQueue {
 public:
  explicit PhaseQueue(cudaStream_t stream) : stream_(stream) {}

  cudaError_t add(const Phase& phase);
  // Launches those that wait. To be called before anything else is enqueued.
  cudaError_t flush();
  cudaStream_t stream() const { return stream_; }

 private:
  cudaStream_t stream_;
  Phases waiting_{};
};

}  // namespace rlvr::cuda
