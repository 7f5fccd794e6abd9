// 2^f on [-0.5, 0.5] as 1 + f * (c1 + f * (c2 + ...)): minimax in units in the last place (0.04 of them before
// rounding; degree 5 has 1.06, too much for 2 in all), each coefficient refitted after those before it were
// rounded to float32. The constant term is 1, so the largest logit of a row contributes exactly 1.
#pragma once

namespace rlvr {

constexpr int kExp2Degree = 6;
constexpr float kExp2Polynomial[kExp2Degree] = {0.6931471824645996f,   0.24022646248340607f,   0.05550359562039375f,
                                                0.009618652053177357f, 0.0013390982057899237f, 0.0001529201545054093f};

// Adding this to x in (-2^22, 2^22) rounds x to an integer n and leaves n + 127 in the low bits of the
// sum: shifted left by 23 they are the bits of 2^n.
constexpr float kExponentMagic = 12582912.0f + 127.0f;

// Exponents are clamped here, where 2^n comes out as exactly 0: a logit of -inf has probability 0, not 1e-38.
constexpr double kLowestExponent = -127.0;

constexpr double kLog2E = 1.4426950408889634074;

}  // namespace rlvr
