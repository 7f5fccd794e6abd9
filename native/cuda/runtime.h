// The CUDA runtime's functions, or their emulation on the CPU in test builds.
#pragma once

#ifdef RLVR_CUDA_EMULATION
#include "emulation/cuda_emulation.h"
#else
#include <cuda_runtime.h>
#endif
