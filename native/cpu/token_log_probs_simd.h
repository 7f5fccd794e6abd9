// The instruction-set versions of token-log-probs' row loops; token_log_probs.cpp picks one.
#pragma once

#include "ops/token_log_probs.h"

namespace rlvr {

namespace {  // a copy for every file: they are compiled for different instruction sets

// float32 terms of a row that the one pass keeps, and room for the vector that the last of them are in.
constexpr int64_t one_pass_terms(int64_t vocab) { return (vocab + 31) / 32 * 32; }

// Those, and two numbers for each block of at least 512 of them.
constexpr int64_t one_pass_scratch(int64_t vocab) { return one_pass_terms(vocab) / 2 + 2 * (vocab / 512 + 1); }

}  // namespace

// What the gradient of a row follows from, besides its logits.
struct RowUpstream {
  double g;  // dL/dlog_prob
  double h;  // dL/dentropy
  double entropy;
  double log_sum_exp;
  double temperature;
};

// Rows [begin, end).
struct TokenLogProbsRows {
  void (*forward)(const TokenLogProbsForward& op, int64_t begin, int64_t end);
  // Returns the first row with an entry that is not finite; `end` if there is none.
  int64_t (*backward)(const TokenLogProbsBackward& op, int64_t begin, int64_t end);
  // Whether `one_pass` needs scratch memory.
  bool (*keeps_terms)(DType dtype);
  // As `backward`; `scratch`: this thread's memory for one_pass_scratch(V) numbers, if it is needed.
  int64_t (*one_pass)(const TokenLogProbsOnePass& op, int64_t begin, int64_t end, double* scratch);
  // The sum of exp((x - reference) / temperature) over a row, but for one term, which is 1; false for a row that is not finite.
  bool (*sums)(const void* row, DType dtype, int64_t count, double temperature, float& reference, double& rest);
  // out[i] = exp(x[i]) for x <= 0, as the loop over a gradient computes it; for the tests.
  void (*exp)(const float* x, float* out, int64_t count);
};

extern const TokenLogProbsRows token_log_probs_rows_portable;
#ifdef RLVR_HAVE_AVX2
extern const TokenLogProbsRows token_log_probs_rows_avx2;
extern const TokenLogProbsRows token_log_probs_rows_avx512;
#endif
#ifdef RLVR_HAVE_NEON
extern const TokenLogProbsRows token_log_probs_rows_neon;
#endif
#ifdef __wasm__
extern const TokenLogProbsRows token_log_probs_rows_wasm;
#endif

// The version for this process.
const TokenLogProbsRows& token_log_probs_rows();

}  // namespace rlvr
