// CUDA's arithmetic intrinsics. The _rn ones are exact; the approximate ones are libm's, so no test may need their
// bits. Instructions that kernels write as PTX are as bad as they may be.
#pragma once

// glibc declares some of these names, hence macros.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)
#define __fdividef(x, y) ((x) / (y))

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}

#define RLVR_EMULATION_MIN_MAX(T)                  \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
RLVR_EMULATION_MIN_MAX(int)
RLVR_EMULATION_MIN_MAX(unsigned)
RLVR_EMULATION_MIN_MAX(long)
RLVR_EMULATION_MIN_MAX(unsigned long)
RLVR_EMULATION_MIN_MAX(long long)
RLVR_EMULATION_MIN_MAX(unsigned long long)
#undef RLVR_EMULATION_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }  // as CUDA: a NaN operand loses
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

#define CUDART_INF_F __uint_as_float(0x7f800000u)
#define CUDART_NAN_F __uint_as_float(0x7fffffffu)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)
#define CUDART_NAN __longlong_as_double(static_cast<long long>(0xfff8000000000000ull))

namespace rlvr::emulation {

// ex2.approx.ftz.f32 at its worst: off by 2^-22, the most that PTX allows, up or down depending on x. Subnormal
// numbers are 0, as x and as result. Exact where PTX says so: 0, infinities, NaN.
inline float ex2_approx_ftz(float x) {
  constexpr float kSmallest = 0x1p-126f;
  if (fabsf(x) < kSmallest) return 1.0f;
  if (x != x || isinf(x)) return x < 0.0f ? 0.0f : x;
  const unsigned hash = std::bit_cast<unsigned>(x) * 0x9e3779b9u;
  // A little less than 2^-22, for the result is rounded once more.
  const double error = (hash >> 31 != 0 ? 1.0 : -1.0) * (0x1p-22 - 0x1p-24);
  const auto result = static_cast<float>(exp2(static_cast<double>(x)) * (1.0 + error));
  return result < kSmallest ? 0.0f : result;
}

}  // namespace rlvr::emulation
