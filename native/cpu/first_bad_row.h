// A loop over rows on several threads, of which the first that went wrong is wanted.
#pragma once

#include <atomic>
#include <cstdint>

#include "cpu/thread_pool.h"

namespace rlvr {

inline void lower(std::atomic<int64_t>& least, int64_t to) {
  int64_t now = least;
  while (to < now && !least.compare_exchange_weak(now, to)) {
  }
}

// Rows by a function that returns the first bad one of its block; the first of all, or -1.
template <class Rows>
int32_t first_bad_row(int64_t tokens, double nanoseconds, Rows rows) {
  std::atomic<int64_t> first{tokens};
  parallel_for(tokens, nanoseconds, [&](int64_t begin, int64_t end) {
    const int64_t bad = rows(begin, end);
    if (bad < end) lower(first, bad);
  });
  return first < tokens ? static_cast<int32_t>(first) : -1;
}

}  // namespace rlvr
