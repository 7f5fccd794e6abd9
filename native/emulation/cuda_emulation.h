// The part of CUDA that the kernels of native/cuda use, as plain C++20 for g++: the same .cu files run on the CPU,
// under ASan and UBSan, on machines without a GPU. Test builds only.
//
//     g++ -std=c++20 -x c++ -DRLVR_CUDA_EMULATION -Inative -c native/cuda/foo.cu
//
// A block's threads are fibers of the calling thread; they switch only at barriers and warp operations, in an order
// that RLVR_EMULATION_ORDER=forward|reverse|<seed> chooses. What a GPU would not forgive ends the process with a
// message. Device memory and shared memory start as RLVR_EMULATION_FILL (a byte, 0xff by default: NaN in every float
// type), and under ASan the host cannot touch device memory except through the runtime API.
//
// Put kernels and device functions with __shared__ variables into an anonymous namespace: ASan has no redzones around
// variables of inline functions and templates with external linkage.
#pragma once

#ifndef RLVR_CUDA_EMULATION
#error "for builds with RLVR_CUDA_EMULATION only"
#endif
#if !defined(__GNUC__) || defined(__clang__) || !defined(__linux__)
#error "the emulation needs g++ on Linux (noinit sections, see shared_variables.cpp)"
#endif

#include "emulation/controls.h"
#include "emulation/device.h"
#include "emulation/float16_types.h"
#include "emulation/launch.h"
#include "emulation/runtime_api.h"
