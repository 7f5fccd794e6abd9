// The same eight-wide interface in plain C++, for processors without a specialised path.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "cpu/float16.h"
#include "cpu/simd/exp2_polynomial.h"

namespace rlvr::portable {

struct Simd {
  static constexpr int kWidth = 8;
  static constexpr int kEntries = 1;
  static constexpr bool kStreams = false;
  static constexpr bool kMasks = false;
  static constexpr bool kCompact = false;
  static constexpr double kFarthest = 65536;  // as FmaExp
  struct Float {
    float lane[kWidth];
  };

  template <class Function>
  static Float each(Function function) {
    Float out;
    for (int i = 0; i < kWidth; ++i) out.lane[i] = function(i);
    return out;
  }

  template <class Constants>
  static const Constants& reread(const Constants& constants) {
    return constants;
  }

  static Float set(float x) {
    return each([&](int) { return x; });
  }
  static Float load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static void store(float* p, Float x) {
    for (int i = 0; i < kWidth; ++i) p[i] = x.lane[i];
  }
  static void transpose(Float (&x)[kWidth]) {
    for (int i = 0; i < kWidth; ++i)
      for (int k = 0; k < i; ++k) std::swap(x[i].lane[k], x[k].lane[i]);
  }
  static Float add(Float a, Float b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Float sub(Float a, Float b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static Float mul(Float a, Float b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static Float fma(Float a, Float b, Float c) {
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static Float max_ignoring_nan(Float x, Float so_far) {
    return each([&](int i) { return x.lane[i] > so_far.lane[i] ? x.lane[i] : so_far.lane[i]; });
  }
  static Float max_keeping_nan(Float floor, Float x) {
    return each([&](int i) { return floor.lane[i] > x.lane[i] ? floor.lane[i] : x.lane[i]; });
  }

  static Float load_bf16(const uint16_t* p) {
    return each([&](int i) { return bf16_to_float(p[i]); });
  }
  static void load_bf16_pair(const uint16_t* p, Float& a, Float& b) {
    a = load_bf16(p);
    b = load_bf16(p + kWidth);
  }
  static void store_bf16_pair(uint16_t* p, Float a, Float b) {
    store_bf16(p, a);
    store_bf16(p + kWidth, b);
  }
  static Float load_f16(const uint16_t* p) {
    return each([&](int i) { return f16_to_float(p[i]); });
  }
  static void store_bf16(uint16_t* p, Float x) {
    for (int i = 0; i < kWidth; ++i) p[i] = float_to_bf16(x.lane[i]);
  }
  static void store_f16(uint16_t* p, Float x) {
    for (int i = 0; i < kWidth; ++i) p[i] = float_to_f16(x.lane[i]);
  }

  // As in exp.h.
  template <Precision, bool>
  struct Scale {
    double exact;
    double exponent;  // of the reference
    Float floor;
    static constexpr double unit = 1;

    Scale(double inverse_temperature, float reference)
        : exact(inverse_temperature * kLog2E),
          exponent(static_cast<double>(reference) * exact),
          floor(set(static_cast<float>((exponent + kLowestExponent) / exact))) {}
  };

  static double sum(Float x) {
    double sum = 0;
    for (float value : x.lane) sum += static_cast<double>(value);
    return sum;
  }

  // A bit for each lane in which a >= b.
  static uint32_t bits_at_least(Float a, Float b) {
    uint32_t bits = 0;
    for (int i = 0; i < kWidth; ++i) bits |= (a.lane[i] >= b.lane[i] ? 1u : 0u) << i;
    return bits;
  }

  // The bits that either has.
  static Float unite(Float a, Float b) {
    return each([&](int i) {
      return std::bit_cast<float>(std::bit_cast<uint32_t>(a.lane[i]) | std::bit_cast<uint32_t>(b.lane[i]));
    });
  }

  // See exp.h. Without FMA the argument is reduced in double instead.
  template <Precision kPrecision, bool kExact, class Polynomial, int N>
  static void exp(const Float (&x)[N], const Scale<kPrecision, kExact>& scale, const Polynomial& polynomial,
                  Float (&factor)[N], Float (&power)[N], Float (&shifted)[N]) {
    constexpr float kMagic = kExponentMagic<kEntries>;
    Float f[N];
    for (int k = 0; k < N; ++k)
      for (int i = 0; i < kWidth; ++i) {
        const double exponent = static_cast<double>(x[k].lane[i]) * scale.exact - scale.exponent;
        const float s = static_cast<float>(exponent) + kMagic;
        f[k].lane[i] = static_cast<float>(exponent - static_cast<double>(s - kMagic));
        factor[k].lane[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(s) << kExponentShift<kEntries>);
        shifted[k].lane[i] = s;
      }
    polynomial.evaluate(f, power);
  }
};

}  // namespace rlvr::portable
