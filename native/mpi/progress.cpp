#include "mpi/progress.h"

#include <thread>

#include "ranks/patience.h"

namespace rlvr::mpi {

void Progress::add(std::shared_ptr<Collective> collective, std::function<void()> done) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({std::move(collective), std::move(done)});
  // Never joined: a process may end while other ranks are awaited.
  if (!started_) std::thread([this] { run(); }).detach();
  started_ = true;
  changed_.notify_all();
}

void Progress::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return entries_.empty(); });
}

void Progress::run() {
  std::unique_lock lock(mutex_);
  Patience patience;
  for (;;) {
    if (entries_.empty()) {
      changed_.notify_all();
      changed_.wait(lock, [this] { return !entries_.empty(); });
      patience.reset();
    }
    if (poll()) {
      patience.reset();
      continue;
    }
    lock.unlock();  // for who adds one
    patience.pause();
    lock.lock();
  }
}

// Whether an operation has ended.
bool Progress::poll() {
  bool any = false;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (!entry->collective->poll()) {
      ++entry;
      continue;
    }
    entry->done();
    entry = entries_.erase(entry);
    any = true;
  }
  return any;
}

}  // namespace rlvr::mpi
