// Which instruction-set path this process uses.
#pragma once

namespace rlvr {

enum class SimdLevel { kPortable, kAvx2, kAvx512, kNeon };

// The best level that this build and this processor have; RLVR_SIMD=portable picks the plain
// one, and RLVR_SIMD=avx2 keeps to that where there is more.
SimdLevel simd_level();
const char* simd_name(SimdLevel level);

}  // namespace rlvr
