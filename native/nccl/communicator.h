// A rank among GPUs. Numbers of the host travel through a piece of device memory, some at a time; sums of what is on
// the device anyway stay there. Everything is enqueued on the stream of the device, and waited for by asking: whether
// the stream is through, and whether NCCL has met an error, which would otherwise leave it waiting for ever.
//
// NCCL works without blocking in communicators that are made here, so that each of its calls can be given up.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device_context.h"
#include "nccl/nccl.h"
#include "ops/linear_log_probs.h"

namespace rlvr::nccl {

// A sum of parts, [rows, width] floats each, contiguous, that goes to where a gradient does.
struct DeviceSum {
  float* part;  // overwritten
  GradientMatrix to;
  int64_t rows;
  int64_t width;
};

class Communicator {
 public:
  using Milliseconds = std::chrono::milliseconds;

  // Null and `failure` where the device has no memory for it. `longest`: how long another rank is waited for.
  static std::shared_ptr<Communicator> make(const Functions& nccl, std::shared_ptr<cuda::DeviceContext> context,
                                            Milliseconds longest, std::string& failure);
  // Aborts what was not closed.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // Functions that return a text: what went wrong, or an empty one. They block, on any thread, one at a time. After an
  // error there is no communicator any more: NCCL has aborted it, unless it is another library's.
  std::string open(const UniqueId& id, int rank, int size);
  // One of another library, which stays its owner's.
  std::string adopt(Comm other, int rank, int size);
  // `values` becomes the sum or the maximum, of which NaN is one where any is.
  std::string reduce(std::vector<double>& values, bool maximum);
  // `out` gets the values of every rank; `counts`: of each.
  std::string gather(const std::vector<double>& values, const std::vector<int>& counts, std::vector<double>& out);
  // `bad`: the first row that is not finite where it went, or -1.
  std::string sum(const DeviceSum& sum, int32_t& bad);
  // `together`: all ranks do this.
  std::string close(bool together);

  const std::shared_ptr<cuda::DeviceContext>& context() const { return context_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  // Ends the call in progress, with an error.
  void abandon() { abandoned_ = true; }
  // Who lets another thread make a call counts it from before its beginning on, for wait().
  void count(int calls) { calls_ += calls; }
  // Waits until no such call is left, for so long at most.
  void wait(Milliseconds longest) const;

 private:
  Communicator(const Functions& nccl, std::shared_ptr<cuda::DeviceContext> context, Milliseconds longest)
      : nccl_(nccl), context_(std::move(context)), longest_(longest) {}
  std::string allocate();
  std::string begin();
  std::string reduce_piece(double* values, size_t count, bool maximum);
  std::string issued(Result result);
  std::string passed();
  std::string waiting() const;
  std::string late() const;
  std::string of(Result result) const;
  std::string fail(std::string what);
  std::string check(cudaError_t error);
  void abort();

  const Functions& nccl_;
  std::shared_ptr<cuda::DeviceContext> context_;
  const Milliseconds longest_;
  std::mutex turn_;
  std::atomic<bool> abandoned_ = false;
  std::atomic<int> calls_ = 0;
  Comm comm_ = nullptr;
  bool own_ = false;
  int rank_ = 0;
  int size_ = 0;
  double* device_ = nullptr;  // kNumbers
  double* pinned_ = nullptr;  // kNumbers
  cudaEvent_t event_ = nullptr;
  bool stuck_ = false;  // the stream may still use the pinned memory
};

}  // namespace rlvr::nccl
