#include "cpu/cpu_features.h"

#include <cstdlib>
#include <cstring>

namespace rlvr {
namespace {

bool asked_for(const char* name) {
  const char* wanted = std::getenv("RLVR_SIMD");
  return wanted != nullptr && std::strcmp(wanted, name) == 0;
}

SimdLevel detect() {
  if (asked_for("portable")) return SimdLevel::kPortable;
#ifdef RLVR_HAVE_AVX2
  __builtin_cpu_init();
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && !asked_for("avx2")) return SimdLevel::kAvx512;
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
    case SimdLevel::kAvx512:
      return "avx512";
    case SimdLevel::kNeon:
      return "neon";
    case SimdLevel::kPortable:
      break;
  }
  return "portable";
}

}  // namespace rlvr
