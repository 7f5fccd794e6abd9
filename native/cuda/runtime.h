// The CUDA runtime's functions (and the types of the driver's), or their emulation on the CPU in test builds.
#pragma once

#ifdef RLVR_CUDA_EMULATION
#include "emulation/cuda_emulation.h"
#else
#include <cuda.h>
#include <cuda_runtime.h>
#endif
