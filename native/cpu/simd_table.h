// Which of the tables of functions, one for each instruction set, this process uses.
#pragma once

#include "cpu/cpu_features.h"

// RLVR_SIMD_TABLE(rows): rows_avx2, rows_neon and so on, whichever is that of simd_level().
#if defined(__wasm__)
#define RLVR_SIMD_TABLE(name) name##_wasm
#elif defined(RLVR_HAVE_AVX2) && defined(RLVR_HAVE_PORTABLE)
#define RLVR_SIMD_TABLE(name)                          \
  (simd_level() == SimdLevel::kAvx512 ? name##_avx512  \
   : simd_level() == SimdLevel::kAvx2 ? name##_avx2    \
                                      : name##_portable)
#elif defined(RLVR_HAVE_AVX2)
#define RLVR_SIMD_TABLE(name) (simd_level() == SimdLevel::kAvx512 ? name##_avx512 : name##_avx2)
#elif defined(RLVR_HAVE_NEON) && defined(RLVR_HAVE_PORTABLE)
#define RLVR_SIMD_TABLE(name) (simd_level() == SimdLevel::kNeon ? name##_neon : name##_portable)
#elif defined(RLVR_HAVE_NEON)
#define RLVR_SIMD_TABLE(name) name##_neon
#else
#define RLVR_SIMD_TABLE(name) name##_portable
#endif
