#include "cpu/cpu_features.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#ifdef _MSC_VER
#include <immintrin.h>
#include <intrin.h>
#endif

namespace rlvr {
namespace {

[[maybe_unused]] bool asked_for(const char* name) {
  const char* wanted = std::getenv("RLVR_SIMD");
  return wanted != nullptr && std::strcmp(wanted, name) == 0;
}

#ifdef RLVR_HAVE_AVX2
struct Features {
  bool avx2;    // with FMA and F16C
  bool avx512;  // F, BW, DQ and VL
};

#ifdef _MSC_VER
// From the processor itself: which instructions it has, and which registers the system keeps when it switches threads.
Features features() {
  enum { kEax, kEbx, kEcx, kEdx };
  const auto has = [](int bits, int wanted) { return (bits & wanted) == wanted; };
  int basic[4];
  int extended[4];
  __cpuid(extended, 0);
  if (extended[kEax] < 7) return {};
  __cpuid(basic, 1);
  __cpuidex(extended, 7, 0);
  constexpr int kXgetbv = 1 << 27;
  if (!has(basic[kEcx], kXgetbv)) return {};
  const auto kept = static_cast<int>(_xgetbv(0));
  constexpr int kYmm = 0x06;
  constexpr int kZmm = 0xe6;
  constexpr int kFmaF16c = 1 << 12 | 1 << 29;
  constexpr int kAvx2 = 1 << 5;
  constexpr int kAvx512 = 1 << 16 | 1 << 17 | 1 << 30 | static_cast<int>(1u << 31);
  return {has(kept, kYmm) && has(basic[kEcx], kFmaF16c) && has(extended[kEbx], kAvx2),
          has(kept, kZmm) && has(extended[kEbx], kAvx512)};
}
#else
Features features() {
  __builtin_cpu_init();
  return {__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"),
          __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")};
}
#endif
#endif

SimdLevel detect() {
#ifdef RLVR_HAVE_PORTABLE
  if (asked_for("portable")) return SimdLevel::kPortable;
#endif
#ifdef RLVR_HAVE_AVX2
  const Features has = features();
  if (has.avx512 && !asked_for("avx2")) return SimdLevel::kAvx512;
  if (has.avx2) return SimdLevel::kAvx2;
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

const char* simd_missing() {
#ifndef RLVR_HAVE_PORTABLE
  if (simd_level() == SimdLevel::kPortable) return "it needs a processor with AVX2, FMA and F16C";
#endif
  return nullptr;
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
