// Types and intrinsics of numbers.
#include <cmath>

#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

void float16_rounds_to_even() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto u = static_cast<unsigned short>(bits);
    const float half = __half2float(__ushort_as_half(u));
    const float brain = __bfloat162float(__ushort_as_bfloat16(u));
    check(__half_as_ushort(__float2half_rn(half)) == (std::isnan(half) ? 0x7fff : u), "f16 there and back");
    check(__bfloat16_as_ushort(__float2bfloat16_rn(brain)) == (std::isnan(brain) ? 0x7fff : u), "bf16 there and back");
  }
  struct Case {
    float value;
    unsigned short half;
    unsigned short brain;
  };
  const Case cases[] = {
      {65519.996f, 0x7bff, 0x4780},  {65520.0f, 0x7c00, 0x4780},      {0x1p-25f, 0x0000, 0x3300},
      {0x1.8p-24f, 0x0002, 0x33c0},  {1 + 0x1p-11f, 0x3c00, 0x3f80},  {1 + 0x1.8p-10f, 0x3c02, 0x3f80},
      {1 + 0x1p-8f, 0x3c04, 0x3f80}, {1 + 0x1.8p-7f, 0x3c0c, 0x3f82}, {-INFINITY, 0xfc00, 0xff80},
      {3.4e38f, 0x7c00, 0x7f80},     {-0.0f, 0x8000, 0x8000},         {NAN, 0x7fff, 0x7fff}};
  for (const Case& c : cases) {
    check(__half_as_ushort(__float2half_rn(c.value)) == c.half, "f16 rounding");
    check(__bfloat16_as_ushort(__float2bfloat16_rn(c.value)) == c.brain, "bf16 rounding");
  }
  check(__popc(0xf0u) == 4 && __ffs(8) == 4 && __ffs(0) == 0 && __clz(1) == 31, "bits");
  check(__float_as_uint(1.0f) == 0x3f800000u && std::isinf(CUDART_INF_F) && max(1.0f, CUDART_NAN_F) == 1, "floats");
  static_assert(alignof(float4) == 16 && alignof(uint4) == 16 && alignof(uint2) == 8 && sizeof(__half2) == 4);
}

// ex2.approx.ftz as a GPU may give it: never exact where it need not be, never further off than PTX promises.
void ex2_is_as_bad_as_allowed() {
  int above = 0;
  int below = 0;
  for (int i = -12500; i < 12700; ++i) {
    const float x = static_cast<float>(i) * 0.01f + 0.003f;
    const double exact = exp2(static_cast<double>(x));
    const double error = static_cast<double>(emulation::ex2_approx_ftz(x)) / exact - 1;
    check(std::fabs(error) <= 0x1p-22 && std::fabs(error) >= 0x1p-23, "an error of 2^-23 to 2^-22");
    ++(error > 0 ? above : below);
  }
  check(above > 10000 && below > 10000, "errors of both signs");
  const auto ex2 = emulation::ex2_approx_ftz;
  check(ex2(-3.5f) == ex2(-3.5f), "the same on every call");
  check(ex2(0.0f) == 1 && ex2(-0.0f) == 1 && ex2(0x1p-127f) == 1 && ex2(-0x1p-140f) == 1, "subnormal arguments are 0");
  check(ex2(-126.5f) == 0 && ex2(-140.0f) == 0 && ex2(-1e30f) == 0, "subnormal results are 0");
  check(ex2(-INFINITY) == 0 && std::isinf(ex2(INFINITY)) && std::isinf(ex2(200.0f)) && std::isnan(ex2(NAN)), "ends");
}

template <class Pair, class Float>
void pairs(Float tie, Float below_tie, Float tiny) {
  const auto value = [](Float x) { return static_cast<float>(x); };
  const Pair numbers{Float(1.0f), Float(-INFINITY)};
  const Pair more{Float(-2.0f), Float(-3.0f)};
  const Pair nans{Float(NAN), Float(NAN)};
  const Pair largest = __hmax2(numbers, more);
  check(value(largest.x) == 1 && value(largest.y) == -3, "the larger of each lane");
  check(value(__hmax2(nans, more).x) == -2 && value(__hmax2(more, nans).y) == -3, "a NaN loses");
  check(std::isnan(value(__hmax2(nans, nans).x)), "unless there is nothing else");
  check(value(__hmax2_nan(numbers, more).y) == -3, "the larger");
  check(std::isnan(value(__hmax2_nan(nans, more).x)) && std::isnan(value(__hmax2_nan(more, nans).y)), "a NaN wins");
  const Pair zeros = __hmax2_nan({Float(-0.0f), Float(0.0f)}, {Float(0.0f), Float(-0.0f)});
  check(!std::signbit(value(zeros.x)) && !std::signbit(value(zeros.y)), "0 is more than -0");
  const Pair once = __hfma2({tie, Float(2.0f)}, {Float(1.5f), Float(3.0f)}, {tiny, Float(-1.0f)});
  check(value(once.x) == value(below_tie) && value(once.y) == 5, "rounded once");
  const Pair spoiled = __hfma2({Float(INFINITY), Float(4.0f)}, {Float(0.0f), Float(0.0f)}, {Float(0.0f), Float(0.0f)});
  check(std::isnan(value(spoiled.x)) && value(spoiled.y) == 0, "0 times infinity");
}

}  // namespace

void numbers() {
  float16_rounds_to_even();
  ex2_is_as_bad_as_allowed();
  // 1.5 * (1 + ulp) lies in the middle between two numbers, but for the addend.
  pairs<__half2, __half>(1 + 0x1p-10f, 1.5f + 0x1p-10f, -0x1p-24f);
  pairs<__nv_bfloat162, __nv_bfloat16>(1 + 0x1p-7f, 1.5f + 0x1p-7f, -0x1p-40f);
}

}  // namespace rlvr::emulation_test
