#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace rlvr {
namespace {

int usable_cores() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int configured_threads() {
  if (const char* text = std::getenv("RLVR_THREADS")) {
    const int value = std::atoi(text);
    if (value > 0) return std::min(value, 1024);
  }
  return usable_cores();
}

class Pool {
 public:
  explicit Pool(int workers) {
    threads_.reserve(static_cast<size_t>(workers));
    try {
      for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The system gives no more threads: go on with those there are, down to none.
    }
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // One loop at a time; the owner of the pool's submit lock calls this.
  void run(int64_t count, int64_t grain, void* body, detail::BlockFunction function) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      count_ = count;
      grain_ = grain;
      body_ = body;
      function_ = function;
      next_.store(0, std::memory_order_relaxed);
      running_ = static_cast<int>(threads_.size());
      ++generation_;
    }
    wake_.notify_all();
    take_blocks();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  void take_blocks() {
    for (;;) {
      const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      function_(body_, begin, std::min(begin + grain_, count_));
    }
  }

  void work() {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      lock.unlock();
      take_blocks();
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  bool stopping_ = false;
  uint64_t generation_ = 0;
  int running_ = 0;
  int64_t count_ = 0;
  int64_t grain_ = 1;
  void* body_ = nullptr;
  detail::BlockFunction function_ = nullptr;
  std::atomic<int64_t> next_{0};
  std::vector<std::thread> threads_;  // last: its threads use everything above
};

std::mutex submit_mutex;  // held for the length of a loop, and to start or stop the pool
std::unique_ptr<Pool> pool;
int holders = 0;

}  // namespace

int thread_count() {
  static const int threads = configured_threads();
  return threads;
}

void acquire_thread_pool() {
  std::lock_guard<std::mutex> lock(submit_mutex);
  ++holders;
}

void release_thread_pool() {
  std::lock_guard<std::mutex> lock(submit_mutex);
  if (--holders == 0) pool.reset();
}

void detail::run_blocks(int64_t count, int64_t grain, void* body, BlockFunction function) {
  grain = std::max<int64_t>(grain, 1);
  if (count <= 0) return;
  if (count > grain && thread_count() > 1) {
    std::unique_lock<std::mutex> submit(submit_mutex, std::try_to_lock);
    if (submit.owns_lock() && holders > 0) {
      if (!pool) pool = std::make_unique<Pool>(thread_count() - 1);
      pool->run(count, grain, body, function);
      return;
    }
  }
  for (int64_t begin = 0; begin < count; begin += grain) function(body, begin, std::min(begin + grain, count));
}

}  // namespace rlvr
