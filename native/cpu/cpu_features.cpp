#include "cpu/cpu_features.h"

#include <cstdlib>
#include <cstring>

namespace rlvr {
namespace {

SimdLevel detect() {
  const char* wanted = std::getenv("RLVR_SIMD");
  if (wanted != nullptr && std::strcmp(wanted, "portable") == 0) return SimdLevel::kPortable;
#ifdef RLVR_HAVE_AVX2
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return SimdLevel::kAvx2;
#endif
#ifdef RLVR_HAVE_NEON
  return SimdLevel::kNeon;
#else
  return SimdLevel::kPortable;
#endif
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = detect();
  return level;
}

const char* simd_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kNeon:
      return "neon";
    case SimdLevel::kPortable:
      break;
  }
  return "portable";
}

}  // namespace rlvr
