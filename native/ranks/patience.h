// How long a waiting rank sleeps between two questions: first not at all, then a small part of what the wait has taken,
// so that ranks that share a core leave it to each other, and none is late by much.
#pragma once

#include <algorithm>
#include <chrono>

namespace rlvr {

class Patience {
 public:
  using Clock = std::chrono::steady_clock;

  Clock::duration waited() const { return Clock::now() - since_; }
  std::chrono::microseconds next() const {
    constexpr std::chrono::microseconds kAtOnce{20}, kLongest{250};
    const auto so_far = std::chrono::duration_cast<std::chrono::microseconds>(waited());
    return so_far < kAtOnce ? std::chrono::microseconds{0} : std::min(so_far / 16, kLongest);
  }
  void reset() { since_ = Clock::now(); }

 private:
  Clock::time_point since_ = Clock::now();
};

}  // namespace rlvr
