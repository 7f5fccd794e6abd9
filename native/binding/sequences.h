// Reading of the packed layout's offsets.
#pragma once

#include <vector>

#include "binding/arguments.h"

namespace rlvr::binding {

// cu[count + 1], and the number of items it packs. An op indexes by these values, so they are checked here
// again: starting at 0, not decreasing.
inline const int32_t* offsets(Arguments& a, const char* name, int64_t count, int64_t& items) {
  const auto* cu = a.host_array<const int32_t>(name, count + 1);
  items = 0;
  if (!a.ok()) return nullptr;
  bool rising = cu[0] == 0;
  for (int64_t i = 0; i < count; ++i) rising = rising && cu[i] <= cu[i + 1];
  if (!rising) return a.fail(name, "offsets from 0 that do not decrease"), nullptr;
  items = cu[count];
  return a.array<const int32_t>(name, count + 1);
}

// order[count], each of 0 ... count - 1 in it; null when the property is undefined.
inline const int32_t* permutation(Arguments& a, const char* name, int64_t count) {
  const auto* order = a.optional_host_array<const int32_t>(name, count);
  if (order == nullptr) return nullptr;
  std::vector<bool> seen(static_cast<size_t>(count), false);
  for (int64_t i = 0; i < count; ++i) {
    const bool fresh = order[i] >= 0 && order[i] < count && !seen[static_cast<size_t>(order[i])];
    if (!fresh) return a.fail(name, "a permutation"), nullptr;
    seen[static_cast<size_t>(order[i])] = true;
  }
  return a.array<const int32_t>(name, count);
}

}  // namespace rlvr::binding
