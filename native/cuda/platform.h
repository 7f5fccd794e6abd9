// What the kernels are written against: CUDA itself, or, in test builds, an emulation that runs the same sources on
// the CPU under sanitizers (emulation/cuda_emulation.h). Everything that differs between the two is in this header:
// the launch, and the few instructions that C++ cannot express.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/runtime.h"
#ifndef RLVR_CUDA_EMULATION
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace rlvr::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The one way a kernel is launched. Returns the launch's status; errors of the run come with a later call.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t stream,
                   const Arguments&... arguments) {
  const dim3 grid(static_cast<unsigned>(blocks));
  const dim3 block(static_cast<unsigned>(threads));
#ifdef RLVR_CUDA_EMULATION
  return emulation::launch(kernel, grid, block, stream, arguments...);
#else
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
#endif
}

// How many blocks of a kernel the current device can hold at a time.
template <class... Parameters>
cudaError_t resident_blocks(void (*kernel)(Parameters...), int threads, int64_t& blocks) {
  int device = 0;
  int processors = 0;
  int of_each = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kernel, threads, 0);
  blocks = int64_t{processors} * of_each;
  return error;
}

// As launch(), for kernels whose blocks share `work` pieces of work however many they are: as many as there are pieces,
// and no more than the device can hold.
template <class... Parameters, class... Arguments>
cudaError_t launch_resident(void (*kernel)(Parameters...), int64_t work, int threads, cudaStream_t stream,
                            const Arguments&... arguments) {
  int64_t blocks = 0;
  const cudaError_t error = resident_blocks(kernel, threads, blocks);
  if (error != cudaSuccess) return error;
  return launch(kernel, work < blocks ? work : blocks, threads, stream, arguments...);
}

// 2^x with a relative error of up to 2^-22; 0 for -inf, NaN for NaN. Numbers below 2^-126 are 0, as x and as result.
__device__ __forceinline__ float exp2_approx(float x) {
#ifdef RLVR_CUDA_EMULATION
  return emulation::ex2_approx_ftz(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

// The larger of two numbers; NaN if one is.
__device__ __forceinline__ float max_keeping_nan(float a, float b) {
#ifdef RLVR_CUDA_EMULATION
  return a != a ? a : b != b ? b : fmaxf(a, b);
#else
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#endif
}

// x as a number of which nothing is known: what is computed from it again is not kept in registers meanwhile.
__device__ __forceinline__ unsigned unknown(unsigned x) {
#ifndef RLVR_CUDA_EMULATION
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// Whether what is read is soon read again, by the same block.
enum class Reads { kOnce, kAgain };

// 16 bytes of a row: the first to be evicted from the caches, or to be kept in L2.
template <Reads kReads>
__device__ __forceinline__ uint4 load_vector(const uint4* address) {
  return kReads == Reads::kOnce ? __ldcs(address) : __ldcg(address);
}

__device__ __forceinline__ void store_streaming(uint4* address, uint4 value) { __stcs(address, value); }

}  // namespace rlvr::cuda
