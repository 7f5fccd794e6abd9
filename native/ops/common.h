// What every op's argument struct shares. Plain C++: no Node, no CUDA headers.
#pragma once

#include <cstdint>

// Functions that CPU and CUDA kernels share.
#ifdef __CUDACC__
#define RLVR_HOST_DEVICE __host__ __device__
#else
#define RLVR_HOST_DEVICE
#endif

namespace rlvr {

// Element type of a logits-shaped array ([T, V]). Everything smaller is float64 (spec, section 8).
enum class DType : int32_t { kF32 = 0, kBF16 = 1, kF16 = 2 };

// Set to non-zero by the caller, at any time, to stop an op early. The op polls it between blocks of
// work and then returns with its outputs in an unspecified (but never out-of-bounds) state.
using CancelFlag = volatile const int32_t*;

inline bool cancelled(CancelFlag flag) { return flag != nullptr && *flag != 0; }

namespace {  // a copy for every file: the CPU's are compiled for different instruction sets

RLVR_HOST_DEVICE inline bool representable(double x) { return x - x == 0; }

RLVR_HOST_DEVICE inline double magnitude(double x) { return x < 0 ? -x : x; }

}  // namespace

}  // namespace rlvr
