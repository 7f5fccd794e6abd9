#include "mpi/process.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace rlvr::mpi {

Process& Process::get() {
  static auto* const process = new Process;
  return *process;
}

std::string Process::load(const std::string& file) {
  if (library_ != nullptr) return file == file_ ? "" : "expected the library in use, " + file_ + ", got " + file;
  std::string failure;
  library_ = Library::open(file, failure);
  if (library_ != nullptr) file_ = file;
  return failure;
}

std::string Process::version() { return library_ == nullptr ? "" : library_->version(); }

std::string Process::text_of(int error) { return error == 0 ? "" : library_->text_of(error); }

std::string Process::start(bool& started) {
  started = false;
  if (library_ == nullptr) return "no library is loaded";
  bool running = false, finalized = false, allowed = false;
  if (const int error = library_->running(running); error != 0) return text_of(error);
  if (const int error = library_->was_finalized(finalized); error != 0) return text_of(error);
  if (finalized) return "MPI was ended in this process, and does not start again";
  const int error = running ? library_->allows_threads(allowed) : library_->start(allowed);
  if (error != 0) return text_of(error);
  if (!allowed) {
    if (!running) library_->finalize();
    return "MPI would run without threads (below MPI_THREAD_SERIALIZED)";
  }
  started = !running;
  if (!watches_exit_) std::atexit(at_exit);
  watches_exit_ = true;
  return "";
}

// Other ranks may be waiting for this one. What the process had to say has been printed by now; the launcher, which
// ends all ranks at once, gets a moment to pass it on.
void Process::at_exit() {
  Process& process = get();
  const auto& all = process.communicators_;
  const auto open = std::find_if(all.begin(), all.end(), [](const Communicator& each) { return each.open; });
  if (open == all.end()) return;
  std::fprintf(stderr, "rlvr-kernels: rank %d of %d ends with its communicators open (exit code %d): MPI_Abort\n",
               open->rank, open->size, process.exit_code_);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  process.library_->abort(process.exit_code_);
}

std::string Process::finalize() {
  bool running = false;
  if (library_ == nullptr || library_->running(running) != 0 || !running) return "";
  return text_of(library_->finalize());
}

std::string Process::open(const int* fortran, int& number) {
  bool running = false;
  if (library_ == nullptr || library_->running(running) != 0 || !running) return "MPI is not running";
  Handle copy = 0;
  const Handle of = fortran == nullptr ? library_->world() : library_->from_fortran(*fortran);
  if (const int error = library_->duplicate(of, copy); error != 0) return text_of(error);
  return add(copy, number);
}

std::string Process::split(int of, int color, int key, int& number) {
  const Communicator* whole = communicator(of);
  if (whole == nullptr) return "no such communicator";
  Handle part = 0;
  if (const int error = library_->split(whole->handle, color, key, part); error != 0) return text_of(error);
  return add(part, number);
}

std::string Process::add(Handle handle, int& number) {
  Communicator made{handle, 0, 0, true};
  if (const int error = library_->rank(handle, made.rank); error != 0) return text_of(error);
  if (const int error = library_->size(handle, made.size); error != 0) return text_of(error);
  number = static_cast<int>(communicators_.size());
  communicators_.push_back(made);
  return "";
}

std::string Process::release(int number, bool together) {
  if (communicator(number) == nullptr) return "";
  communicators_[static_cast<size_t>(number)].open = false;
  return together ? text_of(library_->free(communicators_[static_cast<size_t>(number)].handle)) : "";
}

const Communicator* Process::communicator(int number) const {
  if (number < 0 || static_cast<size_t>(number) >= communicators_.size()) return nullptr;
  const Communicator& found = communicators_[static_cast<size_t>(number)];
  return found.open ? &found : nullptr;
}

}  // namespace rlvr::mpi
