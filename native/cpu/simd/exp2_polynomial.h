// 2^f near 0 as 1 + f * (c1 + f * (c2 + ...)): minimax in relative error, each coefficient refitted after those before
// it were rounded to float32. The constant term is 1, so that 2^0 is exactly 1.
//
// Where an instruction set looks up a table of kEntries floats in a register, the table takes the first bits of the
// fraction and leaves |f| <= 1/(2 * kEntries), for which fewer terms suffice. Without one, kEntries is 1.
#pragma once

#include <cstdint>

namespace rlvr {

constexpr double kLog2E = 1.4426950408889634074;

enum class Precision {
  kFull,   // f32: with the rounding of float32, exp within 2 ulp
  kClose,  // 4.3e-7 at most: sums over 16-bit logits, where instructions are the limit and not the memory; float16
  kRough,  // 3e-5 at most: what will be rounded to bfloat16, where half a unit in the last place is 2e-3 or more
};

template <int kEntries, Precision>
struct Exp2;

template <>
struct Exp2<1, Precision::kFull> {  // 3e-9
  static constexpr int kDegree = 6;
  static constexpr float kPolynomial[kDegree] = {0.6931471824645996f,   0.24022646248340607f,   0.05550359562039375f,
                                                 0.009618652053177357f, 0.0013390982057899237f, 0.0001529201545054093f};
};

template <>
struct Exp2<1, Precision::kClose> {  // 9e-8
  static constexpr int kDegree = 5;
  static constexpr float kPolynomial[kDegree] = {0.6931470036506653f, 0.24022246897220612f, 0.0555071085691452f,
                                                 0.009671291336417198f, 0.0013269521296024323f};
};

template <>
struct Exp2<1, Precision::kRough> {  // 3e-6
  static constexpr int kDegree = 4;
  static constexpr float kPolynomial[kDegree] = {0.6931241750717163f, 0.2402409166097641f, 0.05590648949146271f,
                                                 0.009583127684891224f};
};

template <>
struct Exp2<4, Precision::kFull> {  // 3e-9
  static constexpr int kDegree = 4;
  static constexpr float kPolynomial[kDegree] = {0.6931470632553101f, 0.24022643268108368f, 0.05553211644291878f,
                                                 0.009628554806113243f};
};

template <>
struct Exp2<4, Precision::kClose> {  // 4e-7
  static constexpr int kDegree = 3;
  static constexpr float kPolynomial[kDegree] = {0.6931477189064026f, 0.2403510957956314f, 0.05547265335917473f};
};

template <>
struct Exp2<4, Precision::kRough> {  // 3e-5
  static constexpr int kDegree = 2;
  static constexpr float kPolynomial[kDegree] = {0.6937906742095947f, 0.24022167921066284f};
};

template <>
struct Exp2<16, Precision::kFull> {  // 2e-9
  static constexpr int kDegree = 3;
  static constexpr float kPolynomial[kDegree] = {0.6931471824645996f, 0.24023428559303284f, 0.05550234019756317f};
};

template <>
struct Exp2<16, Precision::kClose> {  // 4e-7
  static constexpr int kDegree = 2;
  static constexpr float kPolynomial[kDegree] = {0.6931878924369812f, 0.24023301899433136f};
};

template <>
struct Exp2<16, Precision::kRough> : Exp2<16, Precision::kClose> {};

// Both below are that polynomial times a factor, as vectors of a SIMD wrapper `S`: a factor of all exponentials, which
// takes no operation. evaluate() has all vectors at each step: one alone would wait on its own dependency chain.

// Times the factor 1/kUnit that makes the coefficient of the highest power 1, which saves the copy of a coefficient
// that fma with three operands would overwrite.
template <class S, Precision kPrecision>
struct Exp2Monic {
  using Polynomial = Exp2<S::kEntries, kPrecision>;
  static constexpr int kDegree = Polynomial::kDegree;
  static constexpr float of(int d) {
    return (d == 0 ? 1.0f : Polynomial::kPolynomial[d - 1]) / Polynomial::kPolynomial[kDegree - 1];
  }
  static constexpr double kUnit = 1 / static_cast<double>(of(0));
  typename S::Float term[kDegree];

  [[gnu::always_inline]] Exp2Monic() {
    for (int d = 0; d < kDegree; ++d) term[d] = S::set(of(d));
  }

  template <class Float, int N>
  [[gnu::always_inline]] void evaluate(const Float (&f)[N], Float (&power)[N]) const {
    if constexpr (S::kCompact && kDegree == 6) return evaluate_pairs(f, power);
    for (int k = 0; k < N; ++k) power[k] = S::add(f[k], term[kDegree - 1]);
    for (int d = kDegree - 2; d >= 0; --d)
      for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], f[k], term[d]);
  }

 private:
  // Pairs of terms, as a polynomial in f * f: an operation more, but a chain of half the length, which counts where a
  // product and a sum are two operations.
  template <class Float, int N>
  [[gnu::always_inline]] void evaluate_pairs(const Float (&f)[N], Float (&power)[N]) const {
    Float square[N];
    Float pair[N];
    for (int k = 0; k < N; ++k) square[k] = S::mul(f[k], f[k]);
    for (int k = 0; k < N; ++k) power[k] = S::fma(S::add(f[k], term[5]), f[k], term[4]);
    for (int d = 2; d >= 0; d -= 2) {
      for (int k = 0; k < N; ++k) pair[k] = S::fma(f[k], term[d + 1], term[d]);
      for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], square[k], pair[k]);
    }
  }
};

// Times a factor that is neither so large nor so small that its product with a coefficient leaves the range of float32.
template <class S, Precision kPrecision>
struct Exp2Multiple {
  using Polynomial = Exp2<S::kEntries, kPrecision>;
  static constexpr int kDegree = Polynomial::kDegree;
  typename S::Float term[kDegree + 1];

  [[gnu::always_inline]] explicit Exp2Multiple(double factor) {
    term[0] = S::set(static_cast<float>(factor));
    for (int d = 1; d <= kDegree; ++d)
      term[d] = S::set(static_cast<float>(factor * static_cast<double>(Polynomial::kPolynomial[d - 1])));
  }

  template <class Float, int N>
  [[gnu::always_inline]] void evaluate(const Float (&f)[N], Float (&power)[N]) const {
    for (int k = 0; k < N; ++k) power[k] = term[kDegree];
    for (int d = kDegree - 1; d >= 0; --d)
      for (int k = 0; k < N; ++k) power[k] = S::fma(power[k], f[k], term[d]);
  }
};

// 2^(k/16)
constexpr float kExp2Sixteenths[16] = {
    1.0f,
    1.0442737340927124f,
    1.0905077457427979f,
    1.1387885808944702f,
    1.1892070770263672f,
    1.2418577671051025f,
    1.2968395948410034f,
    1.3542555570602417f,
    1.4142135381698608f,
    1.4768261909484863f,
    1.5422108173370361f,
    1.610490322113037f,
    1.6817928552627563f,
    1.7562521696090698f,
    1.8340080976486206f,
    1.9152065515518188f,
};

// Adding this to x in (-2^18, 2^18) rounds x to a multiple of 1/kEntries, and leaves (x + 127) * kEntries in the low
// bits of the sum.
template <int kEntries>
constexpr float kExponentMagic = 12582912.0f / kEntries + 127.0f;

// The bits of the fraction among those.
template <int kEntries>
constexpr int kExponentBits = kEntries == 1 ? 0 : kEntries == 4 ? 2 : 4;

// How far to shift those bits left to be the exponent of a float32, and their fraction the first bits of its mantissa.
template <int kEntries>
constexpr int kExponentShift = 23 - kExponentBits<kEntries>;

// What must be added to those for the bits of 2^x.
template <int kEntries>
struct Exp2Table {
  int32_t entry[kEntries] = {};

  constexpr Exp2Table() {
    for (int k = 0; k < kEntries; ++k) {
      const auto bits = __builtin_bit_cast(int32_t, kExp2Sixteenths[k * (16 / kEntries)]);
      entry[k] = bits - __builtin_bit_cast(int32_t, 1.0f) - (k << kExponentShift<kEntries>);
    }
  }
};

// Whether rounding the factor 1/temperature * log2(e) to float32 loses next to nothing, as at temperature 1: terms of
// 2^-100 of the largest, which matter to no sum that has others, are off by less than 1e-6.
inline bool scale_is_close(double inverse_temperature) {
  const double exact = inverse_temperature * kLog2E;
  const double error = (static_cast<double>(static_cast<float>(exact)) - exact) / exact;
  return error < 1.4e-8 && error > -1.4e-8;
}

// Exponents are clamped here, where 2^n comes out as exactly 0: a logit of -inf has probability 0, not 1e-38.
constexpr double kLowestExponent = -127.0;

}  // namespace rlvr
