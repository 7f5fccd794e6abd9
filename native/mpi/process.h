// What this process has of MPI: the library, whether it runs, and our communicators, by number.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mpi/library.h"
#include "mpi/progress.h"

namespace rlvr::mpi {

struct Communicator {
  Handle handle = 0;
  int rank = 0;
  int size = 0;
  bool open = false;
};

// Functions that return a text: what went wrong, or an empty one.
class Process {
 public:
  static Process& get();  // lives until the process ends

  // A process uses one library: the first that was opened.
  std::string load(const std::string& file);
  std::string version();
  // Starts MPI where nobody has. `started`: whether this did.
  std::string start(bool& started);
  std::string finalize();
  // What MPI_Abort gives as the exit code, should the process end with communicators open.
  void set_exit_code(int code) { exit_code_ = code; }

  // A copy of MPI_COMM_WORLD, or of a communicator known by its Fortran handle.
  std::string open(const int* fortran, int& number);
  std::string split(int of, int color, int key, int& number);
  // Ends a communicator; `together`: on all of its ranks at once.
  std::string release(int number, bool together);
  // Null for a number that stands for no open communicator.
  const Communicator* communicator(int number) const;

  // Null until load(); for use while communicators are open.
  Library* library() { return library_.get(); }
  Progress& progress() { return progress_; }
  std::string text_of(int error);

 private:
  Process() = default;
  std::string add(Handle handle, int& number);
  static void at_exit();

  std::string file_;
  std::unique_ptr<Library> library_;
  std::vector<Communicator> communicators_;
  Progress progress_;
  int exit_code_ = 1;
  bool watches_exit_ = false;
};

}  // namespace rlvr::mpi
