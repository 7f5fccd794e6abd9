// The instruction-set versions of sample-tokens' loops over a row; sample_tokens.cpp picks one.
#pragma once

#include "ops/sample_tokens.h"

namespace rlvr {

constexpr int64_t kSampleBlock = 1024;  // elements of a row whose largest, and whose mass, are known
constexpr int kSampleBins = 2048;
constexpr double kBinsPerTemperature = 64;

// Elements of one type, one after the other.
struct SampledRow {
  const void* elements;
  DType dtype;
  int64_t count;
};

// The mass of x is exp((x - reference) * inverse_temperature). The reference is the largest of the row, or near it.
struct SampledScale {
  float reference;
  double inverse_temperature;
};

struct SampleTokensRows {
  // The largest element of each block. False if one is NaN or +inf.
  bool (*maxima)(const SampledRow& row, float* maxima);
  // The mass of each block.
  void (*masses)(const SampledRow& row, const SampledScale& scale, double* masses);
  // The masses of a block's elements.
  void (*terms)(const SampledRow& row, const SampledScale& scale, int64_t block, float* terms);
  // Bins of elements by their distance from the reference, the nearest first: how many are in each, or their mass. What is further
  // than all others is in the last.
  void (*histogram)(const SampledRow& row, const SampledScale& scale, bool masses, double* bins);
  // Where the elements are that are at least `floor`, ascending; returns how many. Only blocks with a maximum of that are read.
  int64_t (*places_from)(const SampledRow& row, float floor, const float* maxima, int32_t* places);
  // Likewise those of a bin.
  int64_t (*places_in)(const SampledRow& row, const SampledScale& scale, int bin, int32_t* places);
};

extern const SampleTokensRows sample_tokens_rows_portable;
#ifdef RLVR_HAVE_AVX2
extern const SampleTokensRows sample_tokens_rows_avx2;
extern const SampleTokensRows sample_tokens_rows_avx512;
#endif
#ifdef RLVR_HAVE_NEON
extern const SampleTokensRows sample_tokens_rows_neon;
#endif
#ifdef __wasm__
extern const SampleTokensRows sample_tokens_rows_wasm;
#endif

}  // namespace rlvr
