// The process's own small thread pool. Work is handed out in fixed blocks of an index range, so which
// thread runs a block never changes what the block computes: results do not depend on the thread count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace rlvr {

// Threads that loops use, the calling one included: RLVR_THREADS, else the cores this process may use.
int thread_count();

// Lets at most this many take part from now on; 0: no limit. For measuring how loops scale.
void limit_threads(int threads);

// Each user of the pool (a Node environment) holds it while it lives; the last one to let go joins the
// threads, so the library can be unloaded safely. Threads start with the first loop that needs them.
void acquire_thread_pool();
void release_thread_pool();

namespace detail {
using BlockFunction = void (*)(void* body, int64_t begin, int64_t end);
void run_blocks(int64_t count, int64_t grain, bool wake, void* body, BlockFunction function);
}  // namespace detail

constexpr double kBlockNanoseconds = 4000;    // what a thread takes at a time: far more than taking it costs
constexpr double kWakingNanoseconds = 30000;  // a shorter loop is over before a sleeping thread wakes

// Calls body(begin, end) for consecutive blocks of the indices [0, count), on several threads if that pays; an index
// takes about `nanoseconds`. The caller works too. If the pool is busy with another loop, the caller does all of it
// alone.
template <class Body>
void parallel_for(int64_t count, double nanoseconds, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  const double grain = std::clamp(kBlockNanoseconds / nanoseconds, 1.0, 1e15);  // 1e15 also for 0
  const bool wake = static_cast<double>(count) * nanoseconds >= kWakingNanoseconds;
  detail::run_blocks(count, static_cast<int64_t>(grain), wake,
                     const_cast<void*>(static_cast<const void*>(std::addressof(body))),
                     [](void* context, int64_t begin, int64_t end) { (*static_cast<Plain*>(context))(begin, end); });
}

}  // namespace rlvr
