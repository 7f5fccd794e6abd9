// Which instruction-set path this process uses.
#pragma once

namespace rlvr {

enum class SimdLevel { kPortable, kAvx2, kAvx512, kNeon };

// The best level that this build and this processor have; RLVR_SIMD=portable picks the portable
// one, and RLVR_SIMD=avx2 allows nothing wider than AVX2.
SimdLevel simd_level();
const char* simd_name(SimdLevel level);

// Why this build has no level for this processor; null where it has one. A prebuilt addon comes without the portable one,
// and must not be used then.
const char* simd_missing();

}  // namespace rlvr
