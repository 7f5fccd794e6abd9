// 2^f on [-0.5, 0.5] as 1 + f * (c1 + f * (c2 + ...)): minimax in relative error, each coefficient refitted after those
// before it were rounded to float32. The constant term is 1, so the largest logit of a row contributes exactly 1.
#pragma once

namespace rlvr {

constexpr double kLog2E = 1.4426950408889634074;

// 3e-9: with the rounding of float32, exp within 2 ulp.
struct Exp2Full {
  static constexpr int kDegree = 6;
  static constexpr float kPolynomial[kDegree] = {0.6931471824645996f,   0.24022646248340607f,   0.05550359562039375f,
                                                 0.009618652053177357f, 0.0013390982057899237f, 0.0001529201545054093f};
  static constexpr bool kExactScale = true;
};

// 9e-8: for sums over 16-bit logits, where instructions are the limit and not the memory.
struct Exp2Close {
  static constexpr int kDegree = 5;
  static constexpr float kPolynomial[kDegree] = {0.6931470036506653f, 0.24022246897220612f, 0.0555071085691452f,
                                                 0.009671291336417198f, 0.0013269521296024323f};
  static constexpr bool kExactScale = true;
};

// The same where rounding the scale to float32 loses next to nothing, as at temperature 1.
struct Exp2CloseScale : Exp2Close {
  static constexpr bool kExactScale = false;
};

// Whether it does: terms of 2^-100 of the largest, which no sum feels unless it has no others, are off by less than 1e-6.
inline bool scale_is_close(double inverse_temperature) {
  const double exact = inverse_temperature * kLog2E;
  const double error = (static_cast<double>(static_cast<float>(exact)) - exact) / exact;
  return error < 1.4e-8 && error > -1.4e-8;
}

// 3e-6, and as much again from the scale's rounding at the most: for what will be rounded to 16 bits, where half a unit in
// the last place is 2e-4 or more.
struct Exp2Rough {
  static constexpr int kDegree = 4;
  static constexpr float kPolynomial[kDegree] = {0.6931241750717163f, 0.2402409166097641f, 0.05590648949146271f,
                                                 0.009583127684891224f};
  static constexpr bool kExactScale = false;
};

// Adding this to x in (-2^22, 2^22) rounds x to an integer n and leaves n + 127 in the low bits of the
// sum: shifted left by 23 they are the bits of 2^n.
constexpr float kExponentMagic = 12582912.0f + 127.0f;

// Exponents are clamped here, where 2^n comes out as exactly 0: a logit of -inf has probability 0, not 1e-38.
constexpr double kLowestExponent = -127.0;

}  // namespace rlvr
