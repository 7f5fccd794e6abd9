// sample-tokens: logits -> one token id per row, drawn at random, its log-prob, and what the filters kept of the vocabulary. Spec
// section 11.
//
// With z = logits / temperature and the ids of a row by falling z, equal ones by rising id, a row keeps as many of the first as each
// of the filters lets through:
//   top-k: the first k
//   top-p: of those, the fewest that have top_p of the mass exp(z) of all those
//   min-p: of those, the ones with logits of at least the row's largest + min_distance, which is temperature * log(min_p)
// A logit of -inf is never kept. The id drawn is the first, ascending, up to which (it included) the kept ids have more than u times
// the mass of all of them, with u of uniform().
#pragma once

#include "ops/common.h"

namespace rlvr {

// A row is non-finite when it holds NaN or +inf, or is all -inf.
struct SampleTokens {
  const void* logits;  // [T, V] dtype, row t starts at element t * row_stride
  DType dtype;
  int64_t tokens;        // T
  int64_t vocab;         // V, < 2^31
  int64_t row_stride;    // elements, >= V
  double temperature;    // > 0
  int64_t top_k;         // >= 1; V or more: no such filter
  double top_p;          // in (0, 1]; 1: no such filter
  double min_distance;   // <= 0; -inf: no such filter
  uint64_t seed;         // of uniform()
  uint64_t offset;       // row t has the number offset + t
  int32_t* ids;          // [T] out; -1 for a non-finite row
  double* log_probs;     // [T] out, natural log of its share of the kept mass; 0 for a non-finite row
  double* cut_logits;    // [T] out or null, with the next two: where the row is cut, see Cut
  int32_t* cut_ids;      // [T] out
  int32_t* kept_counts;  // [T] out; 0: nothing was dropped but logits of -inf
  CancelFlag cancel;
};

// The ids that rows keep, from where these were cut.
struct SampleTokensKept {
  const void* logits;  // [T, V] dtype
  DType dtype;
  int64_t tokens;            // T
  int64_t vocab;             // V, < 2^31
  int64_t row_stride;        // elements, >= V
  const double* cut_logits;  // [T]
  const int32_t* cut_ids;    // [T]
  const int32_t* cu_kept;    // [T + 1] sums of kept_counts; a row with an empty range is not read
  int32_t* kept_ids;         // [K] out, ascending within a row
  CancelFlag cancel;
};

// What a row keeps: larger logits than `logit`, and of equal ones those of ids up to `id`.
struct Cut {
  double logit;
  int32_t id;
};

namespace {  // a copy for every file: the CPU's are compiled for different instruction sets

RLVR_HOST_DEVICE inline bool keeps(const Cut& cut, double x, int64_t id) {
  return x > cut.logit || (x == cut.logit && id <= cut.id);
}

// The one of two that keeps less.
RLVR_HOST_DEVICE inline Cut tighter(const Cut& a, const Cut& b) {
  if (a.logit != b.logit) return a.logit > b.logit ? a : b;
  return a.id < b.id ? a : b;
}

RLVR_HOST_DEVICE inline bool has_filters(const SampleTokens& op) {
  return op.top_k < op.vocab || op.top_p < 1 || representable(op.min_distance);
}

// Philox4x32-10 of Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011; its first 53 bits as a number
// in [0, 1). The key is the seed, the counter the row's number: no row's depends on another's.
RLVR_HOST_DEVICE inline double uniform(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  const uint64_t bits = (uint64_t{c[0]} >> 5 << 26) + (c[1] >> 6);
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace
}  // namespace rlvr
