// The MPI library of this machine, opened at run time; knows nothing of Node. Calls come from any thread and take
// turns: not every MPI allows more than one at a time, and none of those that are repeated takes long.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace rlvr::mpi {

// A communicator or a request, whatever it is in the library.
using Handle = intptr_t;

// Each function returns MPI's error code, 0 for none.
class Library {
 public:
  // Null and `failure` where there is no such file, or it is no MPI with these functions. Nothing is ever unloaded.
  static std::unique_ptr<Library> open(const std::string& file, std::string& failure);
  virtual ~Library() = default;

  virtual std::string version() = 0;           // what the library says of itself
  virtual std::string text_of(int error) = 0;  // of an error code

  // Whether MPI was started, by anyone, and not ended.
  virtual int running(bool& running) = 0;
  virtual int was_finalized(bool& finalized) = 0;
  // `allowed`: whether several threads may make calls, in turn.
  virtual int start(bool& allowed) = 0;
  virtual int allows_threads(bool& allowed) = 0;
  virtual int finalize() = 0;
  virtual void abort(int exit_code) = 0;

  virtual Handle world() = 0;
  virtual Handle from_fortran(int communicator) = 0;
  // Communicators that return their errors.
  virtual int duplicate(Handle communicator, Handle& copy) = 0;
  virtual int split(Handle communicator, int color, int key, Handle& part) = 0;
  virtual int free(Handle communicator) = 0;
  virtual int rank(Handle communicator, int& rank) = 0;
  virtual int size(Handle communicator, int& size) = 0;

  // Begin a collective operation. Of doubles; the maximum is NaN where a number is, and of 0 and -0 it is 0.
  virtual int all_reduce(Handle communicator, const double* values, double* out, int count, bool maximum,
                         Handle& request) = 0;
  virtual int all_gather(Handle communicator, const double* values, double* out, int count, Handle& request) = 0;
  virtual int all_gather(Handle communicator, const double* values, int count, double* out, const int* counts,
                         const int* offsets, Handle& request) = 0;
  // Whether it is done.
  virtual int test(Handle& request, bool& done) = 0;
};

}  // namespace rlvr::mpi
