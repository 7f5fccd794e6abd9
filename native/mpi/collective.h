// One collective operation, in memory of its own: that of the caller may go while the other ranks have yet to come.
#pragma once

#include <memory>
#include <vector>

#include "mpi/library.h"

namespace rlvr::mpi {

class Collective {
 public:
  // Begun; see error().
  static std::shared_ptr<Collective> reduce(Library& library, Handle communicator, std::vector<double> values,
                                            bool maximum);
  // `counts`: of every rank.
  static std::shared_ptr<Collective> gather(Library& library, Handle communicator, std::vector<double> values,
                                            std::vector<int> counts);

  // Asks MPI, which also goes on with its work then. True once the operation has ended, well or not.
  bool poll();
  void wait();
  // For less than handing the wait to another thread and back takes. Whether the operation has ended.
  bool wait_briefly();
  int error() const { return error_; }
  const std::vector<double>& result() const { return result_; }

 private:
  Collective(Library& library, std::vector<double> values) : library_(library), values_(std::move(values)) {}

  Library& library_;
  std::vector<double> values_, result_;
  std::vector<int> counts_, offsets_;
  Handle request_ = 0;
  int error_ = 0;
  bool done_ = false;
};

}  // namespace rlvr::mpi
