// What the files of the emulation's test share.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "emulation/cuda_emulation.h"

namespace rlvr::emulation_test {

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kAsan = true;
#else
inline constexpr bool kAsan = false;
#endif

inline constexpr const char* kOrders[] = {"forward", "reverse", "1", "2", "77"};
inline constexpr unsigned kFull = 0xffffffffu;

inline void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}
inline void ok(cudaError_t status) { check(status == cudaSuccess, cudaGetErrorName(status)); }

template <typename T>
class Device {
 public:
  explicit Device(size_t size) : size_(size) { ok(cudaMalloc(&data_, size * sizeof(T))); }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    ok(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  Device(const Device&) = delete;
  ~Device() { ok(cudaFree(data_)); }
  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    ok(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

template <typename T>
class Pinned {
 public:
  explicit Pinned(size_t size, T value = {}) : size_(size) {
    ok(cudaMallocHost(&data_, size * sizeof(T)));
    for (size_t i = 0; i < size; ++i) data_[i] = value;
  }
  Pinned(const Pinned&) = delete;
  ~Pinned() { ok(cudaFreeHost(data_)); }
  T* data() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  size_t size_;
};

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking) { ok(cudaStreamCreateWithFlags(&stream_, flags)); }
  Stream(const Stream&) = delete;
  ~Stream() { ok(cudaStreamDestroy(stream_)); }
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { ok(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  Event(const Event&) = delete;
  ~Event() { ok(cudaEventDestroy(event_)); }
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Expects refusals: calls that return an error and count as misuse.
class Refusals {
 public:
  void operator()(cudaError_t status, cudaError_t code) {
    if (status != code) std::fprintf(stderr, "%s, not %s\n", cudaGetErrorName(status), cudaGetErrorName(code));
    check(status == code && cudaGetLastError() == code && cudaGetLastError() == cudaSuccess, "a coded error");
    check(emulation::misuse_count() == before_ + ++count_, "a misuse is counted");
  }
  // No other misuse so far.
  void end() const { check(emulation::misuse_count() == before_ + count_, emulation::last_misuse().c_str()); }

 private:
  int64_t before_ = emulation::misuse_count();
  int64_t count_ = 0;
};

// A mistake that must end the process with a message, in a child process.
struct Death {
  bool died;
  std::string message;
};
template <typename F>
Death in_child(F mistake) {
  int ends[2];
  check(pipe(ends) == 0, "pipe");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    mistake();
    _exit(0);
  }
  close(ends[1]);
  Death death{};
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) death.message.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  death.died = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return death;
}
template <typename F>
void dies(F mistake, std::initializer_list<const char*> words) {
  const Death death = in_child(mistake);
  bool correct = death.died;
  for (const char* word : words) correct = correct && death.message.find(word) != std::string::npos;
  if (!correct) std::fprintf(stderr, "it said: %s\n", death.message.c_str());
  check(correct, *words.begin());
}

// Defined in the other files.
void threads();
void runtime_api();
void mistakes();
void pools();
void contexts();
void machines();
void graphs();
void asynchrony();
void numbers();
void speed();

}  // namespace rlvr::emulation_test
