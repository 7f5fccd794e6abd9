// A phase as a launch of its own.
#pragma once

#include "cuda/phase_queue.h"
#include "cuda/platform.h"

namespace rlvr::cuda {

constexpr int kSequenceThreads = 128;  // of a block
constexpr int64_t kMaxSequenceBlocks = 132 * 16;

// With work for that many warps, behind those that wait.
template <class Op>
cudaError_t launch_phase(void (*kernel)(Op), const Op& op, int64_t warps, PhaseQueue& queue) {
  const cudaError_t error = queue.flush();
  if (error != cudaSuccess) return error;
  constexpr int64_t kWarps = kSequenceThreads / kWarp;
  const int64_t blocks = (warps + kWarps - 1) / kWarps;
  const int64_t limited = blocks < kMaxSequenceBlocks ? blocks : kMaxSequenceBlocks;
  return launch(kernel, limited, kSequenceThreads, queue.stream(), op);
}

}  // namespace rlvr::cuda
