// Four floats at a time with NEON, which every AArch64 processor has. Included only by *_neon.cpp.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "cpu/simd/exp.h"

namespace rlvr::neon {

struct Simd : FmaExp<Simd> {
  using Float = float32x4_t;
  static constexpr int kWidth = 4;
  static constexpr bool kStreams = false;
  static constexpr bool kMasks = false;
  static constexpr bool kCompact = false;

  template <class Constants>
  static const Constants& reread(const Constants& constants) {
    return constants;
  }

  static Float set(float x) { return vdupq_n_f32(x); }
  static Float load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, Float x) { vst1q_f32(p, x); }
  static void transpose(Float (&x)[kWidth]) {
    const float32x4x2_t upper = vtrnq_f32(x[0], x[1]);
    const float32x4x2_t lower = vtrnq_f32(x[2], x[3]);
    for (int k = 0; k < 2; ++k) {
      x[k] = vcombine_f32(vget_low_f32(upper.val[k]), vget_low_f32(lower.val[k]));
      x[k + 2] = vcombine_f32(vget_high_f32(upper.val[k]), vget_high_f32(lower.val[k]));
    }
  }
  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static Float fms(Float a, Float b, Float c) { return vfmaq_f32(vnegq_f32(c), a, b); }
  // The larger of the two; a NaN in `x` is ignored. Not vmaxnmq_f32, which keeps a signalling one.
  static Float max_ignoring_nan(Float x, Float so_far) { return vbslq_f32(vcgtq_f32(x, so_far), x, so_far); }
  // The larger of the two; a NaN in `x` is kept.
  static Float max_keeping_nan(Float floor, Float x) { return vmaxq_f32(floor, x); }

  static Float load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
  // Eight bfloat16 as their even and their odd elements, which takes no shuffle. store_bf16_pair undoes it.
  static void load_bf16_pair(const uint16_t* p, Float& even, Float& odd) {
    const uint32x4_t bits = vreinterpretq_u32_u16(vld1q_u16(p));
    even = vreinterpretq_f32_u32(vshlq_n_u32(bits, 16));
    odd = vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000u)));
  }
  static void store_bf16_pair(uint16_t* p, Float even, Float odd) {
    vst1q_u16(p, vreinterpretq_u16_u32(vsriq_n_u32(round_bf16(odd), round_bf16(even), 16)));
  }
  static Float load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  // To nearest even, in the high half of each lane; x is finite.
  static uint32x4_t round_bf16(Float x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    return vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  }
  static void store_bf16(uint16_t* p, Float x) { vst1_u16(p, vshrn_n_u32(round_bf16(x), 16)); }
  static void store_f16(uint16_t* p, Float x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }

  static double sum(Float x) { return vaddvq_f64(vaddq_f64(vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x))); }

  // A bit for each lane in which a >= b.
  static uint32_t bits_at_least(Float a, Float b) {
    static constexpr uint32_t kBits[kWidth] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgeq_f32(a, b), vld1q_u32(kBits)));
  }

  // The bits that either has.
  static Float unite(Float a, Float b) {
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
  }

  static constexpr int kEntries = 1;
  struct Table {};
  static Table table() { return {}; }
  static Float exp2(Float shifted, Table) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(shifted), kExponentShift<kEntries>));
  }
};

}  // namespace rlvr::neon
