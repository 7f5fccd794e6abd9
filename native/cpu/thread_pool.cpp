#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "cpu/environment.h"

namespace rlvr {
namespace {

constexpr int kMaxThreads = 1024;

int usable_cores() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// lib/backend/settings.ts refuses what is no number from 1 to kMaxThreads.
int configured_threads() {
  const std::string text = environment("RLVR_THREADS");
  const char* const end = text.data() + text.size();
  int value = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end && value >= 1 && value <= kMaxThreads ? value : usable_cores();
}

// The core that runs this thread; -1 where that is unknown.
int current_core() {
#ifdef __linux__
  return sched_getcpu();
#else
  return -1;
#endif
}

// Moves this thread off a core, if it may run on others.
void leave_core(int core) {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<size_t>(core), &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
  sched_setaffinity(0, sizeof(allowed), &allowed);  // it stays where it is, until the system moves it
#else
  static_cast<void>(core);
#endif
}

// A hint to the processor that this is a wait.
void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Polls `done` for a few tens of microseconds. Putting a thread to sleep and waking it takes about as long.
template <class Done>
bool spin_until(Done done) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::microseconds(50);
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return false;
}

// A loop is open while there may be blocks to take; a thread enters it, takes blocks until there are none, and leaves.
// The caller closes it and waits for those inside, not for threads that have not woken yet: a late one finds it closed.
class Pool {
 public:
  explicit Pool(int workers) {
    threads_.reserve(static_cast<size_t>(workers));
    try {
      for (int i = 0; i < workers; ++i) threads_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
      // The system gives no more threads: go on with those there are, down to none.
    }
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      loops_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Whether some worker would see a loop without being woken.
  bool awake() const { return asleep_.load(std::memory_order_relaxed) < static_cast<int>(threads_.size()); }

  // One loop at a time; the owner of the pool's submit lock calls this.
  void run(int64_t count, int64_t grain, int workers, void* body, detail::BlockFunction function) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      count_ = count;
      grain_ = grain;
      workers_ = workers;
      body_ = body;
      function_ = function;
      core_ = current_core();
      next_.store(0, std::memory_order_relaxed);
      open_ = true;
      loops_.fetch_add(1, std::memory_order_release);
    }
    if (asleep_.load(std::memory_order_relaxed) > 0) wake_.notify_all();
    take_blocks();
    std::unique_lock<std::mutex> lock(mutex_);
    open_ = false;
    if (inside_.load(std::memory_order_relaxed) == 0) return;
    lock.unlock();
    spin_until([this] { return inside_.load(std::memory_order_acquire) == 0; });
    lock.lock();
    left_.wait(lock, [this] { return inside_.load(std::memory_order_relaxed) == 0; });
  }

 private:
  void take_blocks() {
    for (;;) {
      const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      function_(body_, begin, std::min(begin + grain_, count_));
    }
  }

  // Linux may wake a thread on the core of the one that wakes it, and let the two take turns there for milliseconds.
  // Moving takes a while: the caller does not wait for it.
  void leave_callers_core(std::unique_lock<std::mutex>& lock) {
    const int core = core_;
    if (core < 0 || core != current_core()) return;
    lock.unlock();
    leave_core(core);
    lock.lock();
  }

  void work(int index) {
    uint64_t seen = 0;
    const auto changed = [&] { return loops_.load(std::memory_order_acquire) != seen; };
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (!changed()) {
        lock.unlock();
        spin_until(changed);
        lock.lock();
        asleep_.fetch_add(1, std::memory_order_relaxed);
        wake_.wait(lock, changed);
        asleep_.fetch_sub(1, std::memory_order_relaxed);
      }
      leave_callers_core(lock);
      if (stopping_) return;
      seen = loops_.load(std::memory_order_relaxed);
      if (!open_ || index >= workers_) continue;
      inside_.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      take_blocks();
      lock.lock();
      if (inside_.fetch_sub(1, std::memory_order_release) == 1) left_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable left_;
  bool stopping_ = false;
  bool open_ = false;
  std::atomic<uint64_t> loops_{0};  // changed under the mutex
  std::atomic<int> inside_{0};      // changed under the mutex
  std::atomic<int> asleep_{0};
  int64_t count_ = 0;
  int64_t grain_ = 1;
  int workers_ = 0;  // threads with a lower index may take part
  void* body_ = nullptr;
  detail::BlockFunction function_ = nullptr;
  int core_ = -1;  // that the caller ran on
  std::atomic<int64_t> next_{0};
  std::vector<std::thread> threads_;  // last: its threads use everything above
};

std::mutex submit_mutex;  // held for the length of a loop, and to start or stop the pool
// Not destroyed at the end of a process that ends with calls in flight: Windows has ended the threads by then, with what they held.
Pool* pool = nullptr;
int holders = 0;
std::atomic<int> limit{0};

}  // namespace

int thread_count() {
  static const int threads = configured_threads();
  return threads;
}

void limit_threads(int threads) { limit.store(threads, std::memory_order_relaxed); }

void acquire_thread_pool() {
  std::lock_guard<std::mutex> lock(submit_mutex);
  ++holders;
}

void release_thread_pool() {
  std::lock_guard<std::mutex> lock(submit_mutex);
  if (--holders > 0) return;
  delete pool;
  pool = nullptr;
}

void detail::run_blocks(int64_t count, int64_t grain, bool wake, void* body, BlockFunction function) {
  if (count <= 0) return;
  const int limited = limit.load(std::memory_order_relaxed);
  const int threads = limited > 0 ? std::min(limited, thread_count()) : thread_count();
  if (count > grain && threads > 1) {
    std::unique_lock<std::mutex> submit(submit_mutex, std::try_to_lock);
    if (submit.owns_lock() && holders > 0) {
      if (pool == nullptr && wake) pool = new Pool(thread_count() - 1);
      if (pool != nullptr && (wake || pool->awake())) {
        pool->run(count, grain, threads - 1, body, function);
        return;
      }
    }
  }
  for (int64_t begin = 0; begin < count; begin += grain) function(body, begin, std::min(begin + grain, count));
}

}  // namespace rlvr
