// Memory for one row at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/per_thread.h"

namespace rlvr::cpu {

// Memory of this thread's, which it keeps: a row at most, and rows come one after the other.
inline double* row_scratch(int64_t numbers) {
  struct Scratch : std::vector<double> {};
  auto& memory = per_thread<Scratch>();
  if (static_cast<int64_t>(memory.size()) < numbers + 8) memory.resize(static_cast<size_t>(numbers) + 8);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (64 - address % 64) % 64 / sizeof(double);  // a cache line's first
}

}  // namespace rlvr::cpu
