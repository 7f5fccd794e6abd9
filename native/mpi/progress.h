// A thread that waits for the operations of asynchronous calls, all of them: on libuv's few threads, waits that depend
// on each other could leave no thread for what they wait for.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "mpi/collective.h"

namespace rlvr::mpi {

class Progress {
 public:
  // `done` is called on the thread.
  void add(std::shared_ptr<Collective> collective, std::function<void()> done);
  // Blocks until no operation is left.
  void drain();

 private:
  struct Entry {
    std::shared_ptr<Collective> collective;
    std::function<void()> done;
  };
  void run();
  bool poll();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Entry> entries_;
  bool started_ = false;
};

}  // namespace rlvr::mpi
