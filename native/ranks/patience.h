// How a waiting rank spends the time between two questions: at first it asks again, then it lets others have the core
// if they want it, and in the end it sleeps for a small part of what the wait has taken, so that none is late by much.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

namespace rlvr {

class Patience {
 public:
  using Clock = std::chrono::steady_clock;

  Clock::duration waited() const { return Clock::now() - since_; }
  void pause() const {
    constexpr std::chrono::microseconds kAtOnce{20}, kYielding{200}, kLongest{250};
    const auto so_far = std::chrono::duration_cast<std::chrono::microseconds>(waited());
    if (so_far < kAtOnce) return;
    if (so_far < kYielding) return std::this_thread::yield();
    std::this_thread::sleep_for(std::min(so_far / 16, kLongest));
  }
  void reset() { since_ = Clock::now(); }

 private:
  Clock::time_point since_ = Clock::now();
};

}  // namespace rlvr
