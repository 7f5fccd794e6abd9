// What the sequence-level loops share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/thread_pool.h"
#include "ops/common.h"

namespace rlvr::cpu {

inline bool unmasked(const uint8_t* mask, int64_t t) { return mask == nullptr || mask[t] != 0; }

inline double count_unmasked(const uint8_t* mask, int64_t begin, int64_t end) {
  int64_t count = 0;
  for (int64_t t = begin; t < end; ++t) count += unmasked(mask, t) ? 1 : 0;
  return static_cast<double>(count);
}

// Calls body(begin, end) for sequences [0, sequences), in parallel. One thread takes the whole of a sequence, so no
// result depends on the number of threads.
template <class Body>
void for_sequences(const int32_t* cu_seqlens, int64_t sequences, Body&& body) {
  const int64_t tokens = sequences > 0 ? cu_seqlens[sequences] : 0;
  constexpr double kNanosecondsPerToken = 1;
  const double each = kNanosecondsPerToken * static_cast<double>(tokens) / static_cast<double>(sequences);
  parallel_for(sequences, each, body);
}

// Calls body(i, first token, end token) for every sequence, likewise.
template <class Body>
void for_each_sequence(const int32_t* cu_seqlens, int64_t sequences, CancelFlag cancel, Body&& body) {
  for_sequences(cu_seqlens, sequences, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && !cancelled(cancel); ++i) body(i, cu_seqlens[i], cu_seqlens[i + 1]);
  });
}

}  // namespace rlvr::cpu
