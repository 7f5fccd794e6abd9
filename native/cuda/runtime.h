// The CUDA runtime's functions (and the types of the driver's), or their emulation on the CPU in test builds.
#pragma once

#ifdef RLVR_CUDA_EMULATION
#include "emulation/cuda_emulation.h"
#else
#include <cuda.h>
#include <cuda_runtime.h>
#endif

#include <cstdint>

namespace rlvr::cuda {

// Bytes of an allocation that lie behind one of its parts and belong to none: the emulation lets nobody touch them.
inline void watch_gap([[maybe_unused]] void* begin, [[maybe_unused]] int64_t bytes) {
#ifdef RLVR_CUDA_EMULATION
  emulation::watch_gap(begin, bytes);
#endif
}

}  // namespace rlvr::cuda
